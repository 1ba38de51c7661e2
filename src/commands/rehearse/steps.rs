//! Number of steps of a script: passes through its loops and calls of its functions, counted in a copy of the script.
//!
//! Times say how a script grows only as far as memory and other programs let them: slower memory looks like a logarithm, and a
//! logarithm beside a large linear part looks like slower memory. The number of steps depends on neither. It does not include the
//! work inside commands and library functions, for which time remains the measure.

use full_moon::tokenizer::Symbol;

use super::fit::Growth;
use crate::convert::float;
use crate::lua::{Kind, tokens};

/// Name of the counter, a table because a number can't be changed by functions that were compiled before it.
const COUNTER: &str = "redis_script_exporter_steps";

/// Minimum number of sizes.
const MIN_SIZES: usize = 3;

/// Minimum ratio of the last to the first value for a growth. From 100 to 1,000, log n grows by a factor of 1.5.
const MIN_RATIO: f64 = 1.2;

/// Minimum ratio of each increase of the steps per element to the first one, per unit of log n. It is 1 for n log n. For n with a
/// negative constant, as in a loop that starts at the tenth element, the increase ends.
const MIN_INCREASE: f64 = 0.5;

/// Maximum ratio of the last to the first number of steps per element that is no growth.
const NOT_RISING: f64 = 1.02;

/// Minimum exponent between the last two sizes for a growth of n².
const MIN_QUADRATIC: f64 = 1.5;

/// Beginnings of the names of commands whose time may grow with log n: those of sorted sets, also as places, and SORT. What
/// commands of modules do is unknown; their names contain a period.
const LOGARITHMIC: [&str; 3] = ["z", "geo", "sort"];

/// Number of steps of a run at a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) size: u64,
    pub(crate) count: u64,
}

/// Beginning of the copy of a library: it collects the functions instead of registering them.
const COLLECT_FUNCTIONS: &str = "\
local functions = {} \
local redis = setmetatable({register_function = function(name, callback) \
if type(name) == 'table' then name, callback = name.function_name, name.callback end \
functions[name] = callback end}, {__index = redis}) \
local server = redis ";

/// Returns a copy of a script, or of a library and a call of one of its functions, as a script that replies with the number of
/// steps.
pub(crate) fn counting(source: &str, function: Option<&str>) -> String {
    let first_line = source.find('\n').filter(|_| source.starts_with("#!")).map_or(0, |end| end + 1);
    let (shebang, body) = source.split_at(first_line);
    let (before, call) = match function {
        None => (shebang, String::new()),
        Some(name) => (COLLECT_FUNCTIONS, format!("functions[{name:?}](KEYS, ARGV) ")),
    };
    let count = format!(" {COUNTER}[1]={COUNTER}[1]+1; ");
    let mut copy = format!("{before}local {COUNTER}={{0}} local function counted(...) ");
    let (mut copied, mut is_header) = (0, false);
    for token in tokens(body) {
        match token.kind {
            Kind::Symbol(Symbol::Function) => is_header = true,
            Kind::Symbol(Symbol::Do | Symbol::Repeat) => {}
            Kind::Symbol(Symbol::RightParen) if is_header => is_header = false,
            _ => continue,
        }
        if is_header {
            continue;
        }
        copy.push_str(body.get(copied..token.end).unwrap_or_default());
        copy.push_str(&count);
        copied = token.end;
    }
    copy.push_str(body.get(copied..).unwrap_or_default());
    copy + "\nend counted() " + &call + "return " + COUNTER + "[1]"
}

/// Returns the growths that a script may have, given its steps in ascending order of size, its source, and the commands that it
/// calls. A logarithm has to come from somewhere: from the steps, from sorting, or from a command.
pub(crate) fn possible<'a>(
    steps: &[Steps],
    source: &str,
    mut commands: impl Iterator<Item = &'a str>,
) -> Vec<Growth> {
    let [.., before, last] = steps else { return Growth::ALL.to_vec() };
    if steps.len() < MIN_SIZES {
        return Growth::ALL.to_vec();
    }
    let exponent = (float(last.count) / float(before.count)).ln() / distance(before, last);
    let total = rise(steps, |steps| float(steps.count), 0.0);
    let per_element = rise(steps, Steps::per_element, MIN_INCREASE);
    let slowest = if total < MIN_RATIO {
        Growth::Constant
    } else if per_element < MIN_RATIO {
        Growth::Logarithmic
    } else if exponent < MIN_QUADRATIC {
        Growth::Linearithmic
    } else {
        Growth::Quadratic
    };
    let is_logarithmic = commands
        .any(|name| name.contains('.') || LOGARITHMIC.iter().any(|beginning| name.starts_with(beginning)));
    let sorts = source.to_ascii_lowercase().contains("sort");
    let is_possible = |growth: &Growth| match growth {
        Growth::Logarithmic => is_logarithmic || slowest == Growth::Logarithmic,
        Growth::Linearithmic => is_logarithmic || sorts || per_element > NOT_RISING,
        _ => true,
    };
    Growth::ALL.into_iter().filter(|growth| *growth >= slowest && is_possible(growth)).collect()
}

/// Returns the ratio of the last to the first value; 1 if the value does not rise from each size to the next, by at least
/// `min_increase` of the first increase per unit of log n.
fn rise(steps: &[Steps], value: impl Fn(&Steps) -> f64, min_increase: f64) -> f64 {
    let increases = steps.windows(2).filter_map(|pair| match pair {
        [a, b] => Some((value(b) - value(a)) / distance(a, b)),
        _ => None,
    });
    let increases: Vec<f64> = increases.collect();
    let required = increases.first().map_or(0.0, |first| first * min_increase);
    let is_rising = increases.iter().all(|increase| *increase > 0.0 && *increase >= required);
    match (steps.first(), steps.last()) {
        (Some(first), Some(last)) if is_rising => value(last) / value(first),
        _ => 1.0,
    }
}

impl Steps {
    fn per_element(&self) -> f64 {
        float(self.count) / float(self.size)
    }
}

/// Returns the logarithm of the ratio of two sizes.
fn distance(a: &Steps, b: &Steps) -> f64 {
    (float(b.size) / float(a.size)).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loops_and_functions_are_counted() {
        let source = "#!lua flags=no-writes\nlocal function f(a, b) return (a) end -- do\nfor i = 1, f(3, 1) do local t = 'repeat' end\nrepeat f() until true";
        let expected = "#!lua flags=no-writes\n\
            local S={0} local function counted(...) local function f(a, b) S[1]=S[1]+1;  return (a) end -- do\n\
            for i = 1, f(3, 1) do S[1]=S[1]+1;  local t = 'repeat' end\n\
            repeat S[1]=S[1]+1;  f() until true\n\
            end counted() return S[1]";
        assert_eq!(counting(source, None), expected.replace('S', COUNTER));
        assert!(
            counting("return 1 -- no end of line", None)
                .ends_with(&format!("\nend counted() return {COUNTER}[1]"))
        );
    }

    /// Returns the steps at the small sizes.
    fn steps(count: fn(f64) -> f64) -> Vec<Steps> {
        let steps = |size: u64| Steps { size, count: format!("{:.0}", count(float(size))).parse().unwrap() };
        [100, 300, 1000, 3000, 10_000].into_iter().map(steps).collect()
    }

    /// Steps by size, and the growths that they allow.
    type Example<'a> = (fn(f64) -> f64, &'a [Growth]);

    #[test]
    fn steps_exclude_growths() {
        use Growth::{Constant, Linear, Linearithmic, Logarithmic, Quadratic};
        let any_but_logarithms = &[Constant, Linear, Quadratic][..];
        let slow = &[Logarithmic, Linear, Quadratic][..];
        let examples: [Example<'_>; 14] = [
            (|_| 3.0, any_but_logarithms),
            (|size| (size / 1e6).ceil(), any_but_logarithms),
            // The first 3,000 elements.
            (|size| size.min(3000.0), any_but_logarithms),
            (|size| size.log2().ceil(), slow),
            (|size| size, slow),
            (|size| 5.0 + 2.0 * size, slow),
            // A loop from the eleventh element; batches of 100; a second pass above 1,000 elements.
            (|size| size - 10.0, slow),
            (|size| size + (size / 100.0).ceil(), slow),
            (|size| if size > 1000.0 { 2.0 * size } else { size }, slow),
            // 100 passes for each element, and a heap.
            (|size| 100.0 * size + size * size.log2(), &[Logarithmic, Linear, Linearithmic, Quadratic]),
            // A heap; a merge sort, which also calls a function for each element.
            (|size| size * size.log2(), &[Linearithmic, Quadratic]),
            (|size| 2.0 * size + size * size.log2(), &[Linearithmic, Quadratic]),
            (|size| size * (size - 1.0) / 2.0, &[Quadratic]),
            (|size| 1000.0 * size + size * size, &[Quadratic]),
        ];
        let no_commands = || std::iter::empty();
        for (index, (count, expected)) in examples.into_iter().enumerate() {
            assert_eq!(possible(&steps(count), "return 1", no_commands()), expected, "example {index}");
        }
        let linear = steps(|size| size);
        assert_eq!(
            possible(&linear, "table.sort(t)", no_commands()),
            [Logarithmic, Linear, Linearithmic, Quadratic]
        );
        for command in ["zadd", "geosearch", "sort_ro", "ft.search"] {
            assert_eq!(possible(&linear, "", [command].into_iter()), Growth::ALL[1..]);
        }
        assert_eq!(possible(&linear, "", ["get", "scan"].into_iter()), slow);
        assert_eq!(possible(&linear[..2], "", no_commands()), Growth::ALL, "two sizes");
    }

    proptest! {
        #[test]
        fn any_steps_leave_a_growth(counts in proptest::collection::vec(0..u64::MAX, 0..6)) {
            let steps: Vec<Steps> =
                counts.iter().zip(1..).map(|(count, size)| Steps { size: size * 10, count: *count }).collect();
            prop_assert!(!possible(&steps, "", std::iter::empty()).is_empty());
        }

        #[test]
        fn any_source_is_copied(source in "[a-z(){}'\" \n#!-]{0,80}") {
            prop_assert!(counting(&source, None).contains("counted"));
        }
    }
}
