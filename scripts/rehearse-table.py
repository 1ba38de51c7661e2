#!/usr/bin/env python3
"""Rehearses scripts of published packages and the labelled set of lint, and writes two tables of the documentation.

Usage: rehearse-table.py BINARY [--time-budget 20s] [--jobs 2]

The packages are those of tests/lint/package-lock.json, which `make setup` fetches into the cache; nothing of them is stored. Each
script is copied into a temporary folder, with its comment from tests/rehearse/real.txt above it (for the labelled set: from
tests/rehearse/labelled.txt), and the folder is rehearsed by `rehearse --all`. The tables replace the text between the lines
`<!-- growth -->` and `<!-- end -->` in docs/rehearse.md, and `<!-- agreement -->` and `<!-- end -->` in src/lint/document.md, from
which docs/lint.md is made.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = "-- redis-script-exporter: rehearse "
# Rules whose findings mean that the run time grows with the data.
GROWING = {
    "collection-scan-loop", "endless-loop", "keys-command", "linear-command-in-loop", "long-loop", "loop-over-collection", "scan-loop",
    "unbounded-loop", "unpack-collection", "whole-collection-read", "whole-hash-read",
}
FLAT = ("constant", "log n")
# Size up to which a script is listed as blocking.
SOON = 10_000_000


def entries(path):
    """Returns the scripts of a table: name, comment, reason."""
    found = []
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            found.append([line.strip(), "", ""])
        elif line.strip().startswith("why: "):
            found[-1][2] = line.strip().removeprefix("why: ")
        else:
            found[-1][1] += " " + line.strip()
    return found


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "redis-script-exporter" / "lint" / "node_modules"


def lint(binary, path):
    """Returns the rules that report growing run time."""
    done = subprocess.run([binary, "lint", "--format", "json", "--level", "info", str(path)], capture_output=True, text=True)
    findings = json.loads(done.stdout)["findings"] if done.stdout else []
    return sorted({finding["rule"] for finding in findings} & GROWING)


def rehearse(binary, name, source, comment, budget):
    """Returns the report on one script, from `rehearse --all` on a directory that contains only this script."""
    with tempfile.TemporaryDirectory() as folder:
        first, _, rest = source.partition("\n")
        text = f"{first}\n{MARK}{comment}\n{rest}" if source.startswith("#!") else f"{MARK}{comment}\n{source}"
        (Path(folder) / "script.lua").write_text(text)
        command = [binary, "rehearse", "--all", folder, "--format", "json", "--time-budget", budget]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)[0]
    except (ValueError, IndexError):
        return {"error": done.stderr.strip()}


def about(number):
    digits = f"{float(f'{number:.1e}'):.0f}"
    return re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", digits)


def growth(report):
    """Returns the growth in one word, and the sizes at 1 s and 5 s."""
    if "error" in report:
        return "failed: " + report["error"].splitlines()[0], "", ""
    report = report["report"]
    limits = []
    for limit in report["limits"]:
        reached = limit["reached"]
        limits.append(about(reached["size"]) if reached else "")
    found = report["growth"] or ("does not end" if not report["sizes"] else "unclear")
    if report["killed_at"] and report["sizes"] and not report["growth"]:
        found = f"killed at {about(report['killed_at'])}"
    if not report["growth"] and len(report["sizes"]) == 1:
        found = "constant"
    return found, *limits


def replace(path, begin, table):
    text = path.read_text()
    pattern = re.compile(rf"(<!-- {begin} -->\n).*?(<!-- end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"{path}: no <!-- {begin} -->")
    path.write_text(pattern.sub(lambda found: found.group(1) + "\n" + table + "\n" + found.group(2), text))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--time-budget", default="20s")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    binary = str(Path(options.binary).resolve())
    modules = cache()
    if not modules.exists():
        sys.exit(f"{modules} is missing: run `make setup`")
    real = [(name, modules / name, comment, why) for name, comment, why in entries(ROOT / "tests/rehearse/real.txt")]
    table = {name: (comment, why) for name, comment, why in entries(ROOT / "tests/rehearse/labelled.txt")}
    labelled = []
    for path in sorted((ROOT / "tests/lint").glob("*/*.lua")):
        name = str(path.relative_to(ROOT / "tests/lint"))
        comment, why = table.pop(name, ("", ""))
        labelled.append((name, path, comment, why))
    if table:
        sys.exit(f"tests/rehearse/labelled.txt: not in tests/lint: {', '.join(table)}")

    def row(entry):
        name, path, comment, why = entry
        rules = lint(binary, path)
        if comment.strip().startswith("skip"):
            return name, rules, ("not run", "", ""), why
        result = growth(rehearse(binary, name, path.read_text(), comment, options.time_budget))
        print(f"{name}: {result[0]} {rules}", file=sys.stderr)
        return name, rules, result, why

    with ThreadPoolExecutor(options.jobs) as pool:
        real_rows = list(pool.map(row, real))
        rows = real_rows + list(pool.map(row, labelled))

    lines = ["| script | growth | 1 s at n = | BUSY (5 s) at n = |", "| --- | --- | --- | --- |"]
    for name, _, (found, second, busy), _ in real_rows:
        short = re.sub(r"/(?:[^/]+/)*", " ", name, count=1).removesuffix(".lua")
        lines.append(f"| {short} | {found} | {second} | {busy} |")
    soon = [(name, busy) for name, _, (_, _, busy), _ in real_rows if busy and int(busy.replace(",", "")) <= SOON]
    soon = [f"{re.sub(r'/(?:[^/]+/)*', ' ', name, count=1).removesuffix('.lua')} ({busy})" for name, busy in soon]
    killed = [re.sub(r"/(?:[^/]+/)*", " ", row[0], count=1).removesuffix(".lua") for row in real_rows if row[2][0].startswith("killed")]
    lines += ["", f"At a size up to {about(SOON)} these block a server with `BUSY`: {', '.join(soon + killed)}."]
    replace(ROOT / "docs/rehearse.md", "growth", "\n".join(lines) + "\n")

    def agrees(rules, found):
        return bool(rules) == (found not in FLAT) if not found.startswith(("failed", "not run", "unclear")) else False

    agreed = [entry for entry in rows if agrees(entry[1], entry[2][0])]
    differing = [entry for entry in rows if not agrees(entry[1], entry[2][0])]
    counts = [
        ("reported by lint, grows or does not end", sum(bool(entry[1]) for entry in agreed)),
        ("not reported, constant or log n", sum(not entry[1] for entry in agreed)),
        ("different, see below", len(differing)),
    ]
    lines = ["| lint and rehearse | scripts |", "| --- | --- |", *(f"| {words} | {count} |" for words, count in counts), ""]
    lines += ["| script | lint | rehearse | reason |", "| --- | --- | --- | --- |"]
    for name, rules, (found, *_), why in differing:
        lines.append(f"| {name} | {', '.join(f'`{rule}`' for rule in rules) or 'clean'} | {found} | {why} |")
    replace(ROOT / "src/lint/document.md", "agreement", "\n".join(lines) + "\n")
    missing = [entry[0] for entry in differing if not entry[3]]
    if missing:
        sys.exit(f"no reason: {', '.join(missing)}")


if __name__ == "__main__":
    main()
