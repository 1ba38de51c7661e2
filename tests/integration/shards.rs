//! Sharding: several exporters divide the targets among themselves.

use std::collections::BTreeMap;

use test_support::exporter::Exporter;
use test_support::http;

/// Number of targets. Nothing listens at their addresses; a target exists whether or not its server is reachable.
const TARGETS: usize = 60;

/// Starts an exporter with all targets and this shard.
fn start(shard: &str) -> Exporter {
    let mut args: Vec<String> =
        (1..=TARGETS).map(|number| format!("--redis.addr=redis://127.0.0.1:{number}")).collect();
    args.push(format!("--shard={shard}"));
    Exporter::builder().args(&args).start()
}

/// Returns the number of exporters that monitor each target.
fn watchers(exporters: &[&Exporter]) -> BTreeMap<String, usize> {
    let mut watchers: BTreeMap<String, usize> =
        (1..=TARGETS).map(|number| (format!("127.0.0.1:{number}"), 0)).collect();
    for exporter in exporters {
        for series in exporter.metrics().series("redis_script_target_up") {
            *watchers.get_mut(series.label("target")).unwrap() += 1;
        }
    }
    watchers
}

#[test]
fn each_target_is_in_one_shard_also_while_their_number_changes() {
    let (one_of_two, two_of_two) = (start("1/2"), start("2/2"));
    assert!(watchers(&[&one_of_two, &two_of_two]).values().all(|count| *count == 1));
    // If the new shard is started first, every target is monitored, and only those that move to it are monitored twice.
    let three = start("3/3");
    let moving: Vec<String> =
        watchers(&[&three]).into_iter().filter(|(_, count)| *count == 1).map(|(name, _)| name).collect();
    assert!((TARGETS / 6..TARGETS / 2).contains(&moving.len()), "{moving:?}");
    let check = |exporters: &[&Exporter]| {
        for (target, count) in watchers(exporters) {
            let most = if moving.contains(&target) { 2 } else { 1 };
            assert!((1..=most).contains(&count), "{target} is watched by {count} exporters");
        }
    };
    check(&[&one_of_two, &two_of_two, &three]);
    drop(one_of_two);
    let one = start("1/3");
    check(&[&one, &two_of_two, &three]);
    drop(two_of_two);
    let two = start("2/3");
    assert!(watchers(&[&one, &two, &three]).values().all(|count| *count == 1));
    // The shard is shown in metrics, log and page.
    let labels = [("shard", "2"), ("shards", "3")];
    assert_eq!(two.metrics().sum("redis_script_exporter_shard_info", &labels), 1.0);
    assert!(two.logs().contains("shard=2/3"), "{}", two.logs());
    let body = |path| http::get(two.addr(), path).unwrap().body;
    assert!(body("/").contains("shard 2/3"));
    assert!(body("/api/v1/targets").contains("\"shard\":\"2/3\""));
    let listed = body("/sd");
    for (target, count) in watchers(&[&two]) {
        assert_eq!(listed.contains(&format!("\"{target}\"")), count == 1, "{target} in {listed}");
    }
}
