//! Every output that shows the name of a target also shows its address.

use std::fs;

use serde_json::Value as Json;

use crate::common::{LIMIT, QUICK, lines_with, state};
use test_support::exporter::{Exporter, binary};
use test_support::on_each_server;
use test_support::server::{Kind, Server, free_port};

on_each_server!(a_named_target_has_its_address_everywhere,);

fn a_named_target_has_its_address_everywhere(kind: Kind) {
    let server = Server::builder(kind).config("requirepass s3cret").start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.yml");
    // An unreachable server, which has never reported anything about itself.
    let nowhere = format!("127.0.0.1:{}", free_port());
    let text = format!(
        "targets:\n  - {{name: carts, addr: 'redis://:s3cret@{}'}}\n  - {{name: orders, addr: '{nowhere}'}}\n",
        server.addr()
    );
    fs::write(&file, text).unwrap();
    let config = format!("--config.file={}", file.display());
    let exporter = Exporter::builder().args(&[&config]).args(&QUICK).start();
    let metrics = exporter.wait_for(LIMIT, "both targets to be tried", |metrics| {
        let version =
            metrics.series("redis_script_target_info").iter().any(|info| !info.label("version").is_empty());
        state(metrics, "orders") == "unreachable" && version
    });
    let addresses = [("carts", server.addr().to_string()), ("orders", nowhere.clone())];
    for (name, address) in &addresses {
        let labels = [("target", *name), ("address", address.as_str())];
        assert_eq!(metrics.value("redis_script_target_info", &labels), Some(1.0), "{name}");
    }
    assert!(!metrics.text.contains("s3cret"));

    let response: Json = serde_json::from_str(&exporter.get("/api/v1/targets?q=127.0.0.1").body).unwrap();
    let rows = response["targets"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "found by their addresses: {response}");
    for (name, address) in &addresses {
        let row = rows.iter().find(|row| row["target"] == *name).unwrap();
        assert_eq!(row["address"], *address);
    }
    let logs = exporter.logs();
    let words = ["state changed", "target=orders", &*format!("address={nowhere}"), "state=unreachable"];
    assert_eq!(lines_with(&logs, &words).len(), 1, "{logs}");

    let check = std::process::Command::new(binary()).args(["check", &config]).output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    for (name, address) in &addresses {
        assert!(text.contains(&format!("\n{name} ({address})")), "{text}");
    }
}
