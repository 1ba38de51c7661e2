//! Random faults on each real server: the number of counted and lost entries is exactly the number of entries written.

use std::time::Duration;

use test_support::chaos::{self, Plan};
use test_support::on_each_server;
use test_support::server::Kind;

on_each_server!(the_account_holds);

/// Duration of the faults.
const TIME: Duration = Duration::from_secs(25);

fn the_account_holds(kind: Kind) {
    let report = chaos::run(&Plan { kinds: vec![kind], time: TIME, seed: 20_261_125, hostile: false });
    println!("{kind}: {report}");
    assert!(report.failures.is_empty(), "{}\n{report}", report.failures.join("\n"));
}
