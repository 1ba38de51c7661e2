#!/usr/bin/env python3
"""Prints rows for recorded.tsv from a recording of MONITOR, for libraries that compose their scripts at run time.

    redis-cli MONITOR > monitor.txt        # while a program uses the library; end it with Ctrl-C
    scripts/catalogue/record.py LIBRARY VERSION monitor.txt

Prints a row for each script that was sent whole (EVAL, SCRIPT LOAD), with its first line as a comment; put the script's name in
place of the question mark. Only hashes go into recorded.tsv.
"""

import hashlib
import re
import sys
from pathlib import Path

from generate import fingerprint

ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.S)
CONTROL = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def decoded(argument):
    return ESCAPE.sub(lambda m: bytes.fromhex(m[1][1:].decode()) if m[1][:1] == b"x" and len(m[1]) == 3 else CONTROL.get(m[1], m[1]), argument)


def main():
    library, version, path = sys.argv[1:]
    rows = {}
    for line in Path(path).read_bytes().splitlines():
        arguments = [decoded(argument) for argument in ARGUMENT.findall(line)]
        match [argument.lower() for argument in arguments[:2]]:
            case [b"eval" | b"eval_ro", _]:
                body = arguments[1]
            case [b"script", b"load"] if len(arguments) > 2:
                body = arguments[2]
            case _:
                continue
        rows[hashlib.sha1(body).hexdigest()] = body
    for sha1, body in rows.items():
        print(f"# {body.decode('utf-8', 'replace').strip().splitlines()[0][:100]}")
        print("\t".join([sha1, fingerprint(body) or "-", library, "?", version, version, f"recorded with {library} {version}"]))


if __name__ == "__main__":
    main()
