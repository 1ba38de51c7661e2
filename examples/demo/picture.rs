//! Timeline of each blockage, drawn for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use super::course::{Blockage, Event};

/// Length of the longest timeline, in characters.
const LENGTH: usize = 60;

/// Marks and their meanings.
const MARKS: [(Event, char, &str); 5] = [
    (Event::Seen, 's', "seen by the exporter"),
    (Event::Warned, 'w', "warning arrives"),
    (Event::Paged, 'P', "page arrives"),
    (Event::Busy, 'B', "clients get BUSY"),
    (Event::Killed, 'K', "killed"),
];

/// Draws blockages, each of which begins at the left edge.
pub(crate) fn picture(blockages: &[&Blockage]) -> String {
    let length =
        |blockage: &Blockage| blockage.ended.unwrap_or(blockage.began).saturating_sub(blockage.began);
    let longest = blockages.iter().copied().map(length).max().unwrap_or_default().as_secs_f64().max(1.0);
    let names = blockages.iter().map(|blockage| name(blockage).len()).max().unwrap_or_default();
    let column = |since: Duration| (since.as_secs_f64() / longest * 59.0).round();
    let mut text = format!("{:names$}  {}\n", "seconds", scale(longest));
    for blockage in blockages {
        let end = index(column(length(blockage)));
        let mut line: Vec<char> = (0..=end).map(|_| '─').collect();
        line[0] = '├';
        line[end] = '┤';
        let mut told = Vec::new();
        for (event, mark, _) in MARKS {
            let Some(&(at, _)) = blockage.events.iter().find(|(_, one)| *one == event) else { continue };
            let since = at.saturating_sub(blockage.began);
            told.push(format!("{mark} {:.1}", since.as_secs_f64()));
            // Marks in the same column are placed next to each other.
            let free =
                (index(column(since)).min(end)..=end).find(|&at| at < line.len() && "─┤".contains(line[at]));
            if let Some(at) = free {
                line[at] = mark;
            }
        }
        told.push(format!("end {:.1}", length(blockage).as_secs_f64()));
        let line: String = line.into_iter().collect();
        let _ = writeln!(text, "{:names$}  {line}\n{:names$}  {}", name(blockage), "", told.join("   "));
    }
    let legend: Vec<String> = MARKS.iter().map(|(_, mark, meaning)| format!("{mark} {meaning}")).collect();
    let _ = writeln!(text, "{:names$}  {}", "", legend.join(" · "));
    text
}

fn name(blockage: &Blockage) -> &str {
    blockage.name.as_deref().unwrap_or("your script")
}

/// Returns the scale, with numbers above the columns of full seconds.
fn scale(longest: f64) -> String {
    let step = if longest > 20.0 {
        5
    } else if longest > 8.0 {
        2
    } else {
        1
    };
    let mut text = String::new();
    for second in (0..=60).step_by(step).take_while(|&second| f64::from(second) <= longest) {
        let at = index((f64::from(second) / longest * 59.0).round());
        if at + 2 <= LENGTH {
            let _ = write!(text, "{:width$}{second}", "", width = at.saturating_sub(text.len()));
        }
    }
    text
}

/// Converts a number of columns to an index.
fn index(columns: f64) -> usize {
    let numbered = (0_u32..).zip(0..LENGTH);
    numbered
        .map(|(number, at)| (f64::from(number), at))
        .find(|&(number, _)| number >= columns)
        .map_or(LENGTH - 1, |(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blockage_is_a_line_with_its_events() {
        let ms = Duration::from_millis;
        let blockage = |name: &str, began, ended, events: &[(u64, Event)]| Blockage {
            name: Some(name.to_owned()),
            began: ms(began),
            ended: Some(ms(ended)),
            events: events.iter().map(|&(at, event)| (ms(at), event)).collect(),
        };
        let all = [
            blockage("settle.lua", 1000, 4000, &[(1240, Event::Seen), (3400, Event::Warned)]),
            blockage(
                "recount_everything.lua",
                10_000,
                17_000,
                &[
                    (10_250, Event::Seen),
                    (12_900, Event::Warned),
                    (13_000, Event::Paged),
                    (14_000, Event::Busy),
                    (16_950, Event::Killed),
                ],
            ),
        ];
        let expected = "\
seconds                 0       1        2       3        4       5        6
settle.lua              ├─s─────────────────w────┤
                        s 0.2   w 2.4   end 3.0
recount_everything.lua  ├─s─────────────────────wP────────B────────────────────────K
                        s 0.2   w 2.9   P 3.0   B 4.0   K 7.0   end 7.0
                        s seen by the exporter · w warning arrives · P page arrives · B clients get BUSY · K killed
";
        assert_eq!(picture(&all.iter().collect::<Vec<_>>()), expected);
        assert_eq!(picture(&[]).lines().count(), 2);
    }
}
