//! Helpers for several tests: an exporter with short intervals, and comparison of its counts with the server's own slow log
//! and INFO.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redis::Value;

use test_support::client::{Client, text};
use test_support::exporter::{Builder, Exporter};
use test_support::metrics::{Labels, Metrics};
use test_support::server::{Builder as ServerBuilder, Kind, Server};
use test_support::wait::eventually_or_tell;

/// Time limit for events that happen immediately on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Flags for frequent polls, for tests in which the intervals do not matter, and for a late detection of blockages: on a
/// busy machine, any server may briefly look blocked.
pub(crate) const QUICK: [&str; 4] = [
    "--poll.interval=50ms",
    "--poll.info-interval=200ms",
    "--heartbeat.interval=100ms",
    "--heartbeat.blocked-after=20s",
];

/// A script that runs for a few milliseconds, and is short enough not to be truncated in the slow log.
pub(crate) const SPIN: &str = "for i = 1, tonumber(ARGV[1]) do local x = i end return 1";

/// [`SPIN`] as a function library; the function's name is `spin`.
pub(crate) const SPIN_LIBRARY: &str = "\
#!lua name=spinning
redis.register_function{function_name='spin', flags={'no-writes'}, callback=function(keys, args)
  for i = 1, tonumber(args[1]) do local x = i end
  return 1
end}
";

/// Number of iterations that exceeds the slow log threshold of [`logs_milliseconds`] on any machine.
const ROUNDS: &str = "3000000";

/// Configures a server whose slow log contains all commands of two milliseconds or more.
pub(crate) fn logs_milliseconds(kind: Kind) -> ServerBuilder {
    Server::builder(kind).config("slowlog-log-slower-than 2000")
}

/// Runs [`SPIN`], a variant of it, or the function, long enough to be in the slow log.
#[track_caller]
pub(crate) fn spin(client: &mut Client, command: &str, script: &str) {
    assert_eq!(client.call(&[command, script, "0", ROUNDS]), Value::Int(1), "{command} {script}");
}

/// Calls [`SPIN`]. Fails if the server closes the connection.
#[track_caller]
pub(crate) fn try_spin(client: &mut Client) -> redis::RedisResult<()> {
    client.send(&["EVAL", SPIN, "0", ROUNDS]);
    assert_eq!(client.try_receive_within(LIMIT)?, Some(Value::Int(1)));
    Ok(())
}

/// Loads [`SPIN_LIBRARY`].
#[track_caller]
pub(crate) fn load_spin(client: &mut Client) {
    assert_eq!(text(&client.call(&["FUNCTION", "LOAD", SPIN_LIBRARY])), "spinning");
}

/// Starts an exporter that polls `server` frequently, and waits until it has read everything once, including the baseline
/// of the slow log.
#[track_caller]
pub(crate) fn watch(server: &Server, flags: &[&str]) -> Exporter {
    begin(Exporter::builder().args(&["--redis.addr", &server.url()]).args(flags))
}

/// Starts an exporter that polls frequently, and waits until it has read everything from each server once.
#[track_caller]
pub(crate) fn begin(builder: Builder) -> Exporter {
    let exporter = builder.args(&QUICK).start();
    // The first poll reads INFO and the second one the slow log; when the third begins, both are done.
    exporter.wait_for(LIMIT, "everything to be read once", |metrics| {
        let polls = metrics.series("redis_script_exporter_polls_total");
        polls.iter().all(|polls| polls.value >= 3.0)
    });
    exporter
}

/// Returns the value of the only series with these labels as an integer; `None` if there is none.
#[track_caller]
pub(crate) fn number(metrics: &Metrics, name: &str, labels: Labels<'_>) -> Option<u64> {
    metrics.value(name, labels).map(whole)
}

/// Converts a value that must be an integer.
#[track_caller]
pub(crate) fn whole(value: f64) -> u64 {
    value.to_string().parse().unwrap_or_else(|_| panic!("{value} is not a whole number"))
}

/// Returns the state of the target; panics unless there is exactly one.
#[track_caller]
pub(crate) fn state(metrics: &Metrics, target: &str) -> String {
    let holding: Vec<String> = metrics
        .series("redis_script_target_state")
        .into_iter()
        .filter(|series| series.label("target") == target && series.value > 0.0)
        .map(|series| series.label("state").to_owned())
        .collect();
    let [state] = &holding[..] else { panic!("{target} is in the states {holding:?}") };
    state.clone()
}

/// Returns the label `target` of a server without a name.
pub(crate) fn target_of(server: &Server) -> String {
    server.addr().to_string()
}

/// Returns the number of script calls in the slow log by command and script label, from the counts of the duration
/// histogram.
pub(crate) fn calls(metrics: &Metrics) -> BTreeMap<(String, String), u64> {
    metrics
        .series("redis_script_duration_seconds_count")
        .into_iter()
        .map(|series| {
            ((series.label("command").to_owned(), series.label("script").to_owned()), whole(series.value))
        })
        .collect()
}

/// Like [`calls`], by command and name (the label `name` of `redis_script_info`).
pub(crate) fn calls_by_name(metrics: &Metrics) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for ((command, script), count) in calls(metrics) {
        let infos = metrics.series("redis_script_info");
        let infos: Vec<_> = infos.iter().filter(|info| info.label("script") == script).collect();
        assert_eq!(infos.len(), 1, "one series of redis_script_info for {script}");
        *sums.entry((command, infos[0].label("name").to_owned())).or_insert(0) += count;
    }
    sums
}

/// Waits until `count` script calls have been read from the slow log, and returns that scrape.
#[track_caller]
pub(crate) fn wait_for_scripts(exporter: &Exporter, count: u64) -> Metrics {
    exporter.wait_for(LIMIT, &format!("{count} script calls to be counted"), |metrics| {
        whole(metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")])) >= count
    })
}

/// Slow log entry, as reported by the server.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) id: u64,
    pub(crate) ended_at: u64,
    pub(crate) micros: u64,
    pub(crate) arguments: Vec<String>,
}

/// Returns the whole slow log of a server, newest entry first.
#[track_caller]
pub(crate) fn slowlog(client: &mut Client) -> Vec<Logged> {
    let Value::Array(entries) = client.call(&["SLOWLOG", "GET", "100000"]) else {
        panic!("a list of entries")
    };
    let unsigned = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).unwrap(),
        other => panic!("a number was expected, not {other:?}"),
    };
    entries
        .iter()
        .map(|entry| {
            let Value::Array(fields) = entry else { panic!("an entry is a list") };
            let Value::Array(arguments) = &fields[3] else { panic!("arguments are a list") };
            Logged {
                id: unsigned(&fields[0]),
                ended_at: unsigned(&fields[1]),
                micros: unsigned(&fields[2]),
                arguments: arguments.iter().map(text).collect(),
            }
        })
        .collect()
}

/// Returns the id of the next slow log entry, if the log is not empty.
#[track_caller]
pub(crate) fn next_id(client: &mut Client) -> u64 {
    slowlog(client).first().map_or(0, |entry| entry.id + 1)
}

/// Waits until the log has exactly `count` lines with all these words: a line may still be in the pipe.
#[track_caller]
pub(crate) fn wait_for_lines(exporter: &Exporter, words: &[&str], count: usize) {
    eventually_or_tell(LIMIT, &format!("{count} lines with {words:?}"), || {
        let logs = exporter.logs();
        if lines_with(&logs, words).len() == count { Ok(()) } else { Err(logs) }
    });
}

/// Returns the lines of the log that contain all of these words.
pub(crate) fn lines_with(logs: &str, words: &[&str]) -> Vec<String> {
    logs.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

/// Returns the path of a file in the repository.
pub(crate) fn repository(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compares `text` with a golden file, or rewrites the file if `UPDATE_GOLDEN=1`.
#[track_caller]
pub(crate) fn assert_golden(file: &str, text: &str) {
    let path = repository(file);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|update| update == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden == text {
        return;
    }
    let (before, after): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), text.lines().collect());
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    let difference: Vec<String> = gone.chain(new).collect();
    panic!(
        "{file} does not fit; if that is meant, run the test with UPDATE_GOLDEN=1:\n{}",
        difference.join("\n")
    );
}
