//! Output of a rehearsal as text, Markdown and SVG.

use std::fmt::Write as _;

use super::report::{Expected, Limit, Report, about, bytes, count, seconds};
use crate::convert::float;

/// Columns and rows of the chart in the terminal.
const COLUMNS: u32 = 60;
const ROWS: u32 = 14;

/// Size and margin of the SVG.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 70.0;

/// Formats a report as text for a terminal.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(out, "{}: {}", report.script, report.verdict());
    for line in facts(report) {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
    let rows = table(report);
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  "));
    }
    if let Some(chart) = chart(report) {
        let _ = write!(out, "\n{chart}");
    }
    out.push('\n');
    for line in limits(report) {
        let _ = writeln!(out, "  {line}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    out
}

/// Formats a report as Markdown for a pull request.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = format!("### `{}` {}\n\n", report.script.replace('`', ""), report.verdict());
    for line in limits(report).into_iter().chain(facts(report)) {
        let _ = writeln!(out, "- {}", escaped(&line));
    }
    out.push('\n');
    for (index, row) in table(report).into_iter().enumerate() {
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(out, "|{}", " ---: |".repeat(HEAD.len()));
        }
    }
    out.push('\n');
    for note in &report.notes {
        let _ = writeln!(out, "<sub>{}</sub><br>", escaped(note));
    }
    out
}

/// Formats several rehearsals as a table.
pub(crate) fn summary(reports: &[(String, Result<Report, String>)], is_markdown: bool) -> String {
    let head = ["script", "growth", "largest size", "time", "1 s at n =", "BUSY at n =", "at --expect-size"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (script, report) in reports {
        rows.push(match report {
            Err(error) => vec![script.clone(), format!("failed: {error}")],
            Ok(report) => {
                let last = report.sizes.last();
                let growth = report.growth.unwrap_or(match (last, report.killed_at) {
                    (None, Some(_)) => "does not end",
                    _ if report.sizes.len() == 1 => "nothing grows",
                    _ => "unclear",
                });
                let fails = report.failed_at.map(|size| format!(", fails at n = {}", count(float(size))));
                let mut row = vec![
                    script.clone(),
                    growth.to_owned() + &fails.unwrap_or_default(),
                    last.map_or("-".to_owned(), |row| count(float(row.size))),
                    last.map_or("-".to_owned(), |row| seconds(row.seconds)),
                ];
                row.extend(
                    report
                        .limits
                        .iter()
                        .map(|limit| limit.reached.map_or("-".to_owned(), |reached| about(reached.size))),
                );
                row.push(report.expected.map_or("-".to_owned(), |expected| at_expected(&expected)));
                row
            }
        });
    }
    let mut out = String::new();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > 2).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for (index, row) in rows.iter().enumerate() {
        if is_markdown {
            let _ =
                writeln!(out, "| {} |", row.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" | "));
            if index == 0 {
                let _ = writeln!(out, "|{}", " --- |".repeat(head.len()));
            }
        } else {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
    out
}

/// Escapes text for Markdown and HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

const HEAD: [&str; 7] = ["n", "time", "clock", "runs", "reply", "Lua memory", "changes"];

fn table(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(report.sizes.iter().map(|row| {
        vec![
            count(float(row.size)),
            seconds(row.seconds),
            seconds(row.clock_seconds),
            row.runs.to_string(),
            bytes(row.reply_bytes),
            bytes(row.lua_bytes),
            count(float(row.changes)),
        ]
    }));
    rows
}

/// Returns lines about the server, the data and the commands of a rehearsal.
fn facts(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("server: {}", report.server)];
    if !report.keys.is_empty() {
        lines.push(format!("data: {}", report.keys.join("; ")));
    }
    if !report.args.is_empty() {
        lines.push(format!("ARGV: {}", report.args.join(" ")));
    }
    if !report.assumptions.is_empty() {
        lines.push(format!("assumed: {}", report.assumptions.join("; ")));
    }
    if let (false, Some(row)) = (report.commands.is_empty(), report.sizes.last()) {
        let run = report.commands_run_seconds.max(f64::MIN_POSITIVE);
        let share = |time: f64| format!("{:.0} %", (time / run * 100.0).min(100.0));
        let commands = report.commands.iter().map(|inner| {
            format!("{} {} in {} calls", inner.command, share(inner.seconds), count(float(inner.calls)))
        });
        let commands = commands.collect::<Vec<_>>().join(", ");
        lines.push(format!(
            "time at n = {}: {commands}; the rest is Lua, and less than 1 µs of each call",
            count(float(row.size))
        ));
    }
    lines
}

/// Returns lines with the sizes at which limits are reached.
fn limits(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.limits.iter().filter_map(|limit| limit_line(report, limit)).collect();
    if let Some(expected) = &report.expected {
        lines.push(format!("--expect-size {}: {}", count(float(expected.size)), at_expected(expected)));
    }
    lines
}

fn limit_line(report: &Report, limit: &Limit) -> Option<String> {
    let Some(reached) = limit.reached else {
        let largest = report.sizes.last().filter(|_| report.sizes.len() > 1);
        let up_to = match (report.failed_at, report.growth, largest) {
            (Some(size), ..) => format!("below n = {}, where the script fails", count(float(size))),
            (None, Some(_), _) => "at any extrapolated size".to_owned(),
            (None, None, Some(row)) => format!("up to n = {}", count(float(row.size))),
            (None, None, None) => return None,
        };
        return Some(format!("{}: not reached {up_to}", limit.name));
    };
    let high = reached.high.map_or("more".to_owned(), about);
    let how = if reached.is_extrapolated { ", extrapolated" } else { "" };
    Some(format!("{}: at n = {} ({} to {high}){how}", limit.name, about(reached.size), about(reached.low)))
}

fn at_expected(expected: &Expected) -> String {
    let limit = seconds(expected.limit_seconds);
    let (time, is_certain) = match *expected {
        Expected { seconds: Some(time), at_most_seconds: Some(most), limit_seconds, .. } => {
            (format!("{} to {}", seconds(time), seconds(most)), time > limit_seconds)
        }
        Expected { seconds: Some(time), .. } => (seconds(time), true),
        Expected { at_least_seconds: Some(least), .. } => {
            (format!("unknown time, at least {}", seconds(least)), true)
        }
        Expected { .. } => ("unknown time".to_owned(), true),
    };
    match (expected.exceeds, is_certain) {
        (true, true) => format!("{time}, longer than --slow.warning {limit}"),
        (true, false) => format!("{time}, possibly longer than --slow.warning {limit}"),
        (false, _) => time,
    }
}

/// Ranges of the logarithmic axes of a chart.
struct Axes {
    sizes: (f64, f64),
    times: (f64, f64),
}

impl Axes {
    fn new(report: &Report) -> Option<Self> {
        let (first, last) = (report.sizes.first()?, report.sizes.last()?);
        if report.sizes.len() < 2 {
            return None;
        }
        let end = report.limits.iter().filter_map(|limit| limit.reached).map(|reached| reached.size);
        let end = end.filter(|size| *size <= float(last.size) * 1000.0).fold(float(last.size), f64::max);
        let shortest = report.sizes.iter().map(|row| row.seconds).fold(f64::INFINITY, f64::min);
        let longest = report.sizes.iter().map(|row| row.seconds).fold(5.0, f64::max);
        Some(Self { sizes: (float(first.size), end * 1.2), times: (shortest * 0.7, longest * 1.5) })
    }

    /// Returns the position of a size, from 0 at the left to 1 at the right.
    fn x(&self, size: f64) -> f64 {
        (size / self.sizes.0).ln() / (self.sizes.1 / self.sizes.0).ln()
    }

    /// Returns the position of a time, from 0 at the bottom to 1 at the top.
    fn y(&self, time: f64) -> f64 {
        (time / self.times.0).ln() / (self.times.1 / self.times.0).ln()
    }

    fn size(&self, x: f64) -> f64 {
        self.sizes.0 * (self.sizes.1 / self.sizes.0).powf(x)
    }
}

/// Draws the chart with characters; `None` if there are too few sizes.
fn chart(report: &Report) -> Option<String> {
    let axes = Axes::new(report)?;
    let last_column = float(u64::from(COLUMNS - 1));
    let last_row = float(u64::from(ROWS - 1));
    let row_of = |time: f64| last_row - (axes.y(time) * last_row).round();
    let mut out = String::new();
    for row in 0..ROWS {
        let line = float(u64::from(row));
        let is_at = |time: f64| (row_of(time) - line).abs() < 0.5;
        let label = if is_at(5.0) {
            "BUSY 5 s"
        } else if is_at(1.0) {
            "1 s"
        } else if is_at(1e-3) {
            "1 ms"
        } else if is_at(1e-6) {
            "1 µs"
        } else {
            ""
        };
        let _ = write!(out, "  {label:>8} │");
        for column in 0..COLUMNS {
            let x = float(u64::from(column)) / last_column;
            let is_in = |size: f64| ((axes.x(size) - x) * last_column).abs() <= 0.5;
            let is_point = report.sizes.iter().any(|point| is_in(float(point.size)) && is_at(point.seconds));
            let is_curve = report.fit.as_ref().is_some_and(|fit| is_at(fit.at(axes.size(x))));
            out.push(match (is_point, is_curve, label) {
                (true, _, _) => '●',
                (_, true, _) => '·',
                (_, _, "BUSY 5 s" | "1 s") => '╌',
                _ => ' ',
            });
        }
        out.push('\n');
    }
    let (low, high) = (count(axes.sizes.0), about(axes.sizes.1));
    let _ = writeln!(out, "  {:>8} └{}", "", "─".repeat(usize::try_from(COLUMNS).unwrap_or(60)));
    let gap = usize::try_from(COLUMNS).unwrap_or(60).saturating_sub(low.len() + high.len() + 4);
    let _ = writeln!(out, "  {:>8}  n = {low}{}{high}", "", " ".repeat(gap));
    Some(out)
}

/// Draws the chart as SVG; `None` if there are too few sizes.
pub(crate) fn svg(report: &Report) -> Option<String> {
    let axes = Axes::new(report)?;
    let x = |size: f64| MARGIN + axes.x(size) * (WIDTH - 1.5 * MARGIN);
    let y = |time: f64| HEIGHT - MARGIN * 0.8 - axes.y(time) * (HEIGHT - 1.6 * MARGIN);
    let title = escaped_xml(&format!("{}: {}", report.script, report.verdict()));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    let mut line = |from: (f64, f64), to: (f64, f64), colour: &str| {
        let _ = writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
            from.0, from.1, to.0, to.1
        );
    };
    let (left, right) = (x(axes.sizes.0), x(axes.sizes.1));
    let (bottom, top) = (y(axes.times.0), y(axes.times.1));
    line((left, bottom), (right, bottom), "#444");
    line((left, bottom), (left, top), "#444");
    line((left, y(1.0)), (right, y(1.0)), "#d90");
    line((left, y(5.0)), (right, y(5.0)), "#c22");
    let mut label = |at: (f64, f64), anchor: &str, text: &str| {
        let text = escaped_xml(text);
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>", at.0, at.1);
    };
    for (time, name) in [(5.0, "BUSY 5 s"), (1.0, "1 s"), (1e-1, "100 ms"), (1e-3, "1 ms"), (1e-5, "10 µs")]
    {
        if time > axes.times.0 {
            label((left - 6.0, y(time) + 4.0), "end", name);
        }
    }
    let mut size = 10_f64.powf(axes.sizes.0.log10().ceil());
    while size <= axes.sizes.1 {
        label((x(size), bottom + 16.0), "middle", &count(size));
        size *= 10.0;
    }
    label((right, bottom + 34.0), "end", "size n of the data");
    if let Some(fit) = &report.fit {
        let points: Vec<String> = (0..=60_u32)
            .map(|step| axes.size(f64::from(step) / 60.0))
            .map(|size| format!("{:.1},{:.1}", x(size), y(fit.at(size))))
            .collect();
        let points = points.join(" ");
        let _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"#36c\" stroke-dasharray=\"4 3\"/>"
        );
    }
    for row in &report.sizes {
        let (x, y) = (x(float(row.size)), y(row.seconds));
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#36c\"/>");
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// Escapes text for an XML element.
fn escaped_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
