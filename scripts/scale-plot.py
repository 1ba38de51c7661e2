#!/usr/bin/env python3
"""Plots the cost against the number of targets as SVG, from the table of benches/scale.rs.

usage: scale-plot.py [FILE] > docs/scale.svg

FILE is docs/performance.md by default, or the output of `cargo bench --bench scale`.
"""

import math
import sys

# Columns of the table, with the titles of their charts.
PANELS = [
    ("CPU of a core", "CPU, % of a core"),
    ("memory (RSS)", "resident memory, MB"),
    ("as gzip", "/metrics with gzip, ms"),
    ("heartbeat late, p99", "heartbeat late (p99), ms"),
]
# Factors to milliseconds; other units match the titles.
SCALES = {"s": 1000.0}
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 28, 34, 40
LINE, INK, GRID = "#1f6feb", "#57606a", "#d0d7de"


def rows(lines):
    """Yields each row of the first table whose header begins with `targets`, as a dict."""
    header = None
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            if header:
                return
        elif header is None:
            header = cells if cells[0] == "targets" else None
        elif not cells[0].startswith("-"):
            yield dict(zip(header, cells))


def number(cell):
    """Returns the number in a cell such as `1,000`, `3.7 s` or `13.0 %`; None if it was not measured."""
    words = cell.replace(",", "").split()
    try:
        return float(words[0]) * SCALES.get(words[-1], 1.0)
    except ValueError:
        return None


def label(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def ticks(low, high):
    """Returns the powers of ten that enclose the values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**exponent for exponent in range(first, max(last, first + 1) + 1)]


def panel(title, points, left, top):
    """Returns a chart with logarithmic axes."""
    xs = ticks(*(f(x for x, _ in points) for f in (min, max)))
    ys = ticks(*(f(y for _, y in points) for f in (min, max)))

    def at(value, axis, begin, end):
        low, high = math.log10(axis[0]), math.log10(axis[-1])
        return begin + (math.log10(value) - low) / (high - low) * (end - begin)

    def x_of(value):
        return round(at(value, xs, left + LEFT, left + WIDTH - RIGHT), 1)

    def y_of(value):
        return round(at(value, ys, top + HEIGHT - BOTTOM, top + TOP), 1)

    yield f'<text x="{left + LEFT}" y="{top + 20}" font-weight="bold">{title}</text>'
    for tick in ys:
        yield f'<path d="M{x_of(xs[0])} {y_of(tick)}H{x_of(xs[-1])}" stroke="{GRID}"/>'
        yield f'<text x="{x_of(xs[0]) - 6}" y="{y_of(tick) + 4}" text-anchor="end">{label(tick)}</text>'
    for tick in xs:
        yield f'<text x="{x_of(tick)}" y="{y_of(ys[0]) + 16}" text-anchor="middle">{label(tick)}</text>'
    yield f'<text x="{x_of(xs[-1])}" y="{y_of(ys[0]) + 32}" text-anchor="end">targets</text>'
    line = " ".join(f"{x_of(x)},{y_of(y)}" for x, y in points)
    yield f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x_of(x)}" cy="{y_of(y)}" r="3.5" fill="{LINE}"><title>{x:,.0f}: {y:g}</title></circle>'


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else "docs/performance.md", encoding="utf-8") as file:
        table = list(rows(file))
    if len(table) < 2:
        sys.exit("there is no table with at least two numbers of targets")
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{2 * HEIGHT}"'
        f' font-family="sans-serif" font-size="12" fill="{INK}" role="img">'
    )
    print("<title>Cost against the number of targets, both axes logarithmic</title>")
    print('<rect width="100%" height="100%" fill="#ffffff"/>')
    for index, (column, title) in enumerate(PANELS):
        pairs = [(number(row["targets"]), number(row[column])) for row in table]
        # The axis is logarithmic.
        points = [(x, max(y, 0.1)) for x, y in pairs if x and y is not None]
        for element in panel(title, points, index % 2 * WIDTH, index // 2 * HEIGHT):
            print(element)
    print("</svg>")


main()
