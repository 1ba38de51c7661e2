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

/// Functions that run Lua from a string, whose steps are not counted.
const LOADERS: [&str; 3] = ["dostring", "load", "loadstring"];

/// Minimum number of sizes: the smallest, and the last factor of 10.
const MIN_SIZES: usize = 4;

/// Ratio of two numbers of steps, or of steps per element, up to which they are equal.
const EQUAL: f64 = 1.02;

/// Minimum ratio of the last to the first value for a growth. From 100 to 3,000, log n grows by a factor of 1.7.
const MIN_RATIO: f64 = 1.2;

/// Maximum exponent over the last factor of 10 for a growth of log n. From 3,000 to 30,000, it is 0.11.
const MAX_LOGARITHMIC: f64 = 0.3;

/// Minimum exponents over the last factor of 10 for a growth of n and of n².
const MIN_LINEAR: f64 = 0.7;
const MIN_QUADRATIC: f64 = 1.5;

/// Maximum deviation from a straight line of the steps per element over log n, as a share of their rise, for n log n. Whole numbers
/// of passes, like the next power of 2, deviate by a tenth; a second phase above a certain size deviates by more.
const MAX_DEVIATION: f64 = 0.15;

/// Minimum slope over the last factor of 10, as a share of the slope of that line. For n with a negative constant, as in a loop that
/// starts at the tenth element, the rise ends.
const MIN_LAST_SLOPE: f64 = 0.5;

/// Beginnings of the names of commands whose time may grow with log n: those of sorted sets, of places, of vectors, and SORT. What
/// commands of modules do is unknown; their names contain a period.
const LOGARITHMIC: [&str; 4] = ["z", "geo", "v", "sort"];

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
/// steps. Returns `None` if steps could be missed. `is_repeated` is true if the function is called twice and the second call
/// counts: a library may keep what it computed.
pub(crate) fn counting(source: &str, function: Option<&str>, is_repeated: bool) -> Option<String> {
    // For Lua, each of these is the end of a line, also in a string.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let first_line = source.find('\n').filter(|_| source.starts_with("#!")).map_or(0, |end| end + 1);
    let (shebang, body) = source.split_at(first_line);
    let before = if function.is_some() { COLLECT_FUNCTIONS } else { shebang };
    let count = format!(" {COUNTER}[1]={COUNTER}[1]+1; ");
    let mut copy = format!("{before}local {COUNTER}={{0}} local function counted(...) ");
    let (mut copied, mut is_header) = (0, false);
    for token in tokens(body) {
        match token.kind {
            Kind::Symbol(Symbol::Function) => is_header = true,
            Kind::Symbol(Symbol::Do | Symbol::Repeat) => {}
            Kind::Symbol(Symbol::RightParen) if is_header => is_header = false,
            Kind::Illegal(_) => return None,
            Kind::Word(name) if LOADERS.contains(&name) => return None,
            _ => continue,
        }
        if is_header {
            continue;
        }
        copy.push_str(body.get(copied..token.end)?);
        copy.push_str(&count);
        copied = token.end;
    }
    copy.push_str(body.get(copied..)?);
    copy.push_str("\nend counted() ");
    if let Some(name) = function {
        let call = format!("{COUNTER}[1]=0 functions[{name:?}](KEYS, ARGV) ");
        copy.push_str(&call.repeat(if is_repeated { 2 } else { 1 }));
    }
    Some(copy + "return " + COUNTER + "[1]")
}

/// Returns the growths that a script may have, given its steps in ascending order of size, its source, and the commands that it
/// calls. The time grows at least like the steps, and a factor of log n has to come from somewhere: from the steps, from sorting, or
/// from a command.
pub(crate) fn possible<'a>(
    steps: &[Steps],
    source: &str,
    mut commands: impl Iterator<Item = &'a str>,
) -> Vec<Growth> {
    let ([first, ..], [.., earlier, before, last]) = (steps, steps) else { return Growth::ALL.to_vec() };
    if steps.len() < MIN_SIZES {
        return Growth::ALL.to_vec();
    }
    let total = last.count() / first.count();
    let exponent = earlier.exponent(last);
    let slowest = if is_superlinear(steps) {
        if exponent < MIN_QUADRATIC { Growth::Linearithmic } else { Growth::Quadratic }
    } else if exponent.min(before.exponent(last)) >= MIN_LINEAR {
        Growth::Linear
    } else if total >= MIN_RATIO && last.count() / earlier.count() > EQUAL {
        Growth::Logarithmic
    } else {
        Growth::Constant
    };
    let is_logarithmic = commands
        .any(|name| name.contains('.') || LOGARITHMIC.iter().any(|beginning| name.starts_with(beginning)));
    let sorts = source.to_ascii_lowercase().contains("sort");
    let is_possible = |growth: &Growth| match growth {
        Growth::Logarithmic => is_logarithmic || exponent <= MAX_LOGARITHMIC,
        Growth::Linearithmic => is_logarithmic || sorts || last.per_element() / earlier.per_element() > EQUAL,
        _ => true,
    };
    Growth::ALL.into_iter().filter(|growth| *growth >= slowest && is_possible(growth)).collect()
}

/// Returns true if the steps per element rise with log n or faster.
fn is_superlinear(steps: &[Steps]) -> bool {
    let ([first, ..], [.., earlier, _, last]) = (steps, steps) else { return false };
    let rise = last.per_element() - first.per_element();
    if last.per_element() < MIN_RATIO * first.per_element() {
        return false;
    }
    if earlier.exponent(last) >= MIN_QUADRATIC {
        return true;
    }
    // The line through all points by least squares.
    let points: Vec<(f64, f64)> =
        steps.iter().map(|steps| (first.distance(steps), steps.per_element())).collect();
    let count: f64 = points.iter().map(|_| 1.0).sum();
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let slope = covariance / points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum::<f64>();
    let is_near = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).abs() <= MAX_DEVIATION * rise;
    let last_slope = (last.per_element() - earlier.per_element()) / earlier.distance(last);
    points.iter().all(is_near) && last_slope >= MIN_LAST_SLOPE * slope
}

impl Steps {
    /// Returns the number of steps; at least 1.
    fn count(&self) -> f64 {
        float(self.count.max(1))
    }

    fn per_element(&self) -> f64 {
        self.count() / float(self.size)
    }

    /// Returns the logarithm of the ratio of the size of `larger` to this one.
    fn distance(&self, larger: &Self) -> f64 {
        (float(larger.size) / float(self.size)).ln()
    }

    /// Returns the exponent of the growth from this size to that of `larger`.
    fn exponent(&self, larger: &Self) -> f64 {
        (larger.count() / self.count()).ln() / self.distance(larger)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loops_and_functions_are_counted() {
        let source = "#!lua flags=no-writes\r\nlocal function f(a, b) return (a) end -- do\rfor i = 1, f(3, 1) do local t = 'repeat\\\r\n' end\nrepeat f() until true";
        let expected = "#!lua flags=no-writes\n\
            local ~={0} local function counted(...) local function f(a, b) ~[1]=~[1]+1;  return (a) end -- do\n\
            for i = 1, f(3, 1) do ~[1]=~[1]+1;  local t = 'repeat\\\n' end\n\
            repeat ~[1]=~[1]+1;  f() until true\n\
            end counted() return ~[1]";
        assert_eq!(counting(source, None, false).unwrap(), expected.replace('~', COUNTER));
        let end = |text: &str| format!("\nend counted() {}", text.replace('~', COUNTER));
        let copy =
            |function, is_repeated| counting("return 1 -- no end of line", function, is_repeated).unwrap();
        assert!(copy(None, true).ends_with(&end("return ~[1]")));
        let call = "~[1]=0 functions[\"f\"](KEYS, ARGV) ";
        assert!(copy(Some("f"), false).ends_with(&end(&format!("{call}return ~[1]"))));
        assert!(copy(Some("f"), true).ends_with(&end(&format!("{call}{call}return ~[1]"))));
        assert_eq!(counting("loadstring('for i = 1, 9 do end')()", None, false), None);
        assert_eq!(counting("return `", None, false), None);
    }

    /// Returns the steps at the sizes at which they are counted.
    fn steps(count: fn(f64) -> f64) -> Vec<Steps> {
        let steps = |size: u64| Steps { size, count: format!("{:.0}", count(float(size))).parse().unwrap() };
        [100, 300, 1000, 3000, 10_000, 30_000].into_iter().map(steps).collect()
    }

    /// Steps by size, and the growths that they allow.
    type Example<'a> = (fn(f64) -> f64, &'a [Growth]);

    #[test]
    fn steps_exclude_growths() {
        use Growth::{Constant, Linear, Linearithmic, Logarithmic, Quadratic};
        let unclear = &[Constant, Logarithmic, Linear, Quadratic][..];
        let logarithmic = &[Logarithmic, Linear, Quadratic][..];
        let linear = &[Linear, Quadratic][..];
        let superlinear = &[Linear, Linearithmic, Quadratic][..];
        let linearithmic = &[Linearithmic, Quadratic][..];
        let examples: [Example<'_>; 23] = [
            (|_| 3.0, unclear),
            (|size| (size / 1e6).ceil(), unclear),
            // The first 3,000 elements, a logarithm beside a fixed loop.
            (|size| size.min(3000.0), unclear),
            (|size| 1500.0 + 15.0 * size.log2().ceil(), unclear),
            // A bisection, with one that ends at a hit, and a logarithm to base 10.
            (|size| size.log2().ceil(), logarithmic),
            (|size| if (size - 1e4).abs() < 1.0 { 440.0 } else { 40.0 * size.log2().floor() }, logarithmic),
            (|size| 201.0 * (1.0 + size.log10().floor()), logarithmic),
            // None of the growths: at least not log n.
            (f64::sqrt, linear),
            (|size| 1e5 + size, logarithmic),
            (|size| size, linear),
            (|size| 5.0 + 2.0 * size, linear),
            // A loop from the eleventh element, batches of 100, other passes above a certain size.
            (|size| size - 10.0, linear),
            (|size| size + (size / 100.0).ceil(), linear),
            (|size| if size > 1000.0 { 2.0 * size } else { size }, linear),
            (|size| size - 1.0 + (size - 500.0).max(0.0), superlinear),
            // 100 passes for each element, and a heap.
            (|size| 100.0 * size + size * size.log2(), superlinear),
            // A heap, the next power of 2, and a merge sort, which also calls a function for each element.
            (|size| size * size.log2(), linearithmic),
            (|size| size * size.log2().ceil(), linearithmic),
            (|size| 2.0 * size + size * size.log2(), linearithmic),
            // Measured with a script that doubles in two nested loops.
            (
                |size| {
                    size * [21.0, 31.0, 34.5, 47.0, 64.0, 71.0]
                        [[1e2, 3e2, 1e3, 3e3, 1e4, 3e4].iter().position(|at| *at >= size).unwrap_or(0)]
                },
                linearithmic,
            ),
            (|size| size * (size - 1.0) / 2.0, &[Quadratic]),
            (|size| 1000.0 * size + size * size, &[Quadratic]),
            (|size| size.powi(3), &[Quadratic]),
        ];
        let none = std::iter::empty;
        for (index, (count, expected)) in examples.into_iter().enumerate() {
            assert_eq!(possible(&steps(count), "return 1", none()), expected, "example {index}");
        }
        let passes = steps(|size| size);
        assert_eq!(possible(&passes, "table.sort(t)", none()), Growth::ALL[2..]);
        for command in ["zadd", "geosearch", "sort_ro", "vsim", "ft.search"] {
            assert_eq!(possible(&passes, "", [command].into_iter()), Growth::ALL[2..], "{command}");
            assert_eq!(possible(&steps(|_| 0.0), "", [command].into_iter()), Growth::ALL, "{command}");
        }
        assert_eq!(possible(&passes, "", ["get", "scan"].into_iter()), linear);
        assert_eq!(possible(&passes[..3], "", none()), Growth::ALL, "three sizes");
    }

    proptest! {
        #[test]
        fn any_steps_leave_a_growth(counts in proptest::collection::vec(0..u64::MAX, 0..7)) {
            let steps: Vec<Steps> =
                counts.iter().zip(1..).map(|(count, size)| Steps { size: size * 10, count: *count }).collect();
            prop_assert!(!possible(&steps, "", std::iter::empty()).is_empty());
        }

        #[test]
        fn any_source_is_copied_or_not(source in "[a-z(){}'\" \r\n`#!-]{0,80}") {
            let copy = counting(&source, None, false);
            prop_assert!(copy.is_none_or(|copy| copy.contains("counted")));
        }
    }
}
