#!/usr/bin/env python3
"""Rehearses the scripts of tests/rehearse in rounds, and compares the detected growths with those in the file names.

Usage: rehearse-accuracy.py BINARY [--rounds 10] [--time-budget 60s] [--jobs 1] [--verify]

A file name begins with the growth: constant-…, logarithmic-…, linear-…, linearithmic-…, quadratic-…. A round passes with at least 19 of 20.
With --verify each linear script runs once at the size that is predicted for 1 s, as `--expect-size` and the only size; its time has to
be 0.67 to 1.5 s. Several jobs make the machine busy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "tests/rehearse").glob("*.lua"))
GROWTHS = {"constant": "constant", "logarithmic": "log n", "linear": "n", "linearithmic": "n log n", "quadratic": "n²"}
# Maximum size at which a prediction is verified.
MAX_SIZE = 10_000_000


def rehearse(binary, script, *flags):
    command = [binary, "rehearse", str(script), "--format", "json", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"growth": None, "limits": [], "sizes": [], "notes": [done.stderr.strip()]}


def verify(binary, script, report):
    """Returns the size predicted for 1 s, and the time of a real run at that size."""
    reached = report["limits"][0]["reached"] if report["limits"] else None
    if reached is None or reached["size"] > MAX_SIZE:
        return None
    size = round(reached["size"])
    # As the only size, so that the data is created for it directly.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / script.name
        copy.write_text(script.read_text().replace("{n}", str(size)).replace("=string", f"=string,keys={size}", 1)
                        if "*=" in script.read_text() else sized(script.read_text(), size))
        run = rehearse(binary, copy, "--max-size", "10", "--time-budget", "300s")
    seconds = run["sizes"][-1]["seconds"] if run["sizes"] else None
    return size, seconds


def sized(source, size):
    """Returns the source with the size in place of n in its comment."""
    first, rest = source.split("\n", 1)
    words = []
    for word in first.split(" "):
        if word.startswith("KEYS[") and "size=" not in word:
            word += f",size={size}"
        words.append(word.replace("{n}", str(size)))
    return " ".join(words) + "\n" + rest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--time-budget", default="60s")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verify", action="store_true")
    options = parser.parse_args()
    binary = str(Path(options.binary).resolve())
    failed = False
    for number in range(1, options.rounds + 1):
        with ThreadPoolExecutor(options.jobs) as pool:
            one = lambda script: rehearse(binary, script, "--time-budget", options.time_budget)
            reports = list(pool.map(one, SCRIPTS))
        wrong = []
        for script, report in zip(SCRIPTS, reports):
            if report["growth"] != GROWTHS[script.stem.split("-")[0]]:
                wrong.append(f"{script.stem}: {report['growth']} {report['notes']}")
        right = len(SCRIPTS) - len(wrong)
        failed |= right < 19
        none = sum(report["growth"] is None for report in reports)
        load = f"{os.getloadavg()[1]:.0f} runnable processes"
        print(f"round {number}: {right} of {len(SCRIPTS)}, {none} without a growth, {load}", *wrong, sep="\n  ", flush=True)
        if options.verify:
            for script, report in zip(SCRIPTS, reports):
                if script.stem.startswith("linear-"):
                    found = verify(binary, script, report)
                    if found is None:
                        print(f"  {script.stem}: 1 s is predicted above {MAX_SIZE}")
                        continue
                    size, seconds = found
                    is_near = seconds is not None and 1 / 1.5 <= seconds <= 1.5
                    failed |= not is_near
                    print(f"  {script.stem}: 1 s at {size}: {seconds} s{'' if is_near else ', NOT within 1.5'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
