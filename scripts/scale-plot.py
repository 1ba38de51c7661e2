#!/usr/bin/env python3
"""Draws docs/scale.svg from the table "Many servers" of docs/performance.md, which `make bench` prints.

Usage: scale-plot.py [--check]

With --check nothing is written; the exit code is 1 if the picture is not that of the table.
"""

import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/scale.svg"

WIDTH, HEIGHT = 300, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 40

# Column of the table, title, unit, and what the bench requires of 1,000 and 10,000 targets.
PANELS = [
    (1, "CPU", "% of a core", {1000: 10, 10000: 100}),
    (2, "Memory (RSS)", "MB", {1000: 60, 10000: 450}),
    (4, "Scrape, gzip", "ms", {1000: 100, 10000: 1000}),
]


def rows(text):
    """Rows of the table as lists of numbers."""
    section = text.split("## Many servers", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[\d,]+", cells[0]):
            numbers = [re.match(r"[\d.,]+", cell) for cell in cells]
            yield [float(number.group().replace(",", "")) if number else None for number in numbers]


def ticks(low, high):
    """Powers of ten from `low` to `high`."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def label(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def panel(left, column, title, unit, limits, table):
    points = [(row[0], row[column]) for row in table if row[column]]
    values = [value for _, value in points] + list(limits.values())
    x_ticks, y_ticks = ticks(points[0][0], points[-1][0]), ticks(min(values), max(values))

    def x(targets):
        share = math.log10(targets / x_ticks[0]) / math.log10(x_ticks[-1] / x_ticks[0])
        return left + LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        share = math.log10(value / y_ticks[0]) / math.log10(y_ticks[-1] / y_ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    yield f'<text class="title" x="{left + LEFT}" y="18">{title}, {unit}</text>'
    for tick in y_ticks:
        yield f'<line class="grid" x1="{x(x_ticks[0]):.1f}" x2="{x(x_ticks[-1]):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text class="end" x="{left + LEFT - 6}" y="{y(tick) + 4:.1f}">{label(tick)}</text>'
    for tick in x_ticks:
        yield f'<text class="middle" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}">{label(tick)}</text>'
    middle = (x(x_ticks[0]) + x(x_ticks[-1])) / 2
    yield f'<text class="middle" x="{middle:.1f}" y="{HEIGHT - 6}">targets</text>'
    for targets, limit in limits.items():
        yield f'<line class="limit" x1="{x(targets) - 8:.1f}" x2="{x(targets) + 8:.1f}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
    line = " ".join(f"{x(targets):.1f},{y(value):.1f}" for targets, value in points)
    yield f'<polyline points="{line}"/>'
    for targets, value in points:
        yield f'<circle cx="{x(targets):.1f}" cy="{y(value):.1f}" r="3"><title>{targets:,.0f} targets: {value:g} {unit}</title></circle>'


def picture(text):
    table = list(rows(text))
    width = WIDTH * len(PANELS)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="img">',
        "<title>CPU, memory and duration of a scrape by the number of targets; bars are the limits of the benchmark</title>",
        "<style>"
        "svg { background: #fff } text { font: 11px sans-serif; fill: #333 } .title { font-weight: bold }"
        " .end { text-anchor: end } .middle { text-anchor: middle } .grid { stroke: #ddd }"
        " .limit { stroke: #c62828; stroke-width: 2 } polyline { fill: none; stroke: #1565c0; stroke-width: 2 } circle { fill: #1565c0 }"
        "</style>",
    ]
    for index, (column, title, unit, limits) in enumerate(PANELS):
        lines += panel(index * WIDTH, column, title, unit, limits, table)
    return "\n".join([*lines, "</svg>", ""])


def main():
    svg = picture(TABLE.read_text())
    if "--check" in sys.argv[1:]:
        if not PICTURE.exists() or PICTURE.read_text() != svg:
            sys.exit("docs/scale.svg is not the picture of docs/performance.md: run scripts/scale-plot.py")
        return
    PICTURE.write_text(svg)


main()
