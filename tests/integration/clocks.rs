//! A server with a wrong clock: the times of its calls are converted to the exporter's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::common::{SPIN, logs_milliseconds, spin, wait_for_scripts, watch};
use crate::exactly_once::OwnClock;
use test_support::server::{Kind, run_on};

/// Uses other versions because Debian's Redis 7.0 does not run with libfaketime; the test does not depend on the version.
#[test]
fn times_of_calls_are_in_the_exporters_clock() {
    run_on(Kind::Redis62, wrong_clocks);
    run_on(Kind::Valkey91, wrong_clocks);
}

fn wrong_clocks(kind: Kind) {
    for seconds in [-600, 600] {
        let dir = TempDir::new().unwrap();
        let Some(clock) = OwnClock::new(&dir.path().join("clock")) else { return };
        clock.set(seconds);
        let mut builder = logs_milliseconds(kind);
        for (name, value) in clock.variables() {
            builder = builder.env(name, value);
        }
        let server = builder.start();
        let exporter = watch(&server, &["--slow.warning=1ms"]);
        let began = now();
        spin(&mut server.client(), "EVAL", SPIN);
        let metrics = wait_for_scripts(&exporter, 1);
        let is_now = |time: f64| (began - 2.0..=now() + 2.0).contains(&time);

        let ended = metrics.series("redis_script_last_slow_call_timestamp_seconds");
        assert_eq!(ended.len(), 1, "{}", metrics.text);
        assert!(is_now(ended[0].value), "{seconds}: {} is not near {began}", ended[0].value);
        // The call ended less than 10 minutes ago, even if the server's clock is 10 minutes behind.
        assert_eq!(metrics.series("redis_script_max_duration_seconds").len(), 1, "{seconds}");
        for (list, rows, field) in [
            ("targets", "targets", "last_slow_call"),
            ("slow", "calls", "ended_at"),
            ("scripts", "scripts", "first_seen"),
            ("scripts", "scripts", "last_seen"),
        ] {
            let response: Json =
                serde_json::from_str(&exporter.get(&format!("/api/v1/{list}")).body).unwrap();
            let time = response[rows][0][field].as_f64().unwrap();
            assert!(is_now(time), "{seconds}: {list}.{field}: {time} is not near {began}");
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
