//! Passwords in `--web.config.file`: which requests are admitted, and the cost of verification.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::common::{LIMIT, lines_with};
use test_support::exporter::Exporter;
use test_support::http::{self, Connection};
use test_support::wait::load_per_core;

use super::{PASSWORD, Site, get_as, login, tls_text, try_get_as, users_text};

#[test]
fn a_password_is_required_and_verified() {
    let site = Site::new(&users_text(10));
    let exporter = site.start();
    let addr = exporter.addr();
    let long = login("alice", &"x".repeat(2000));
    let right = login("alice", PASSWORD);
    let cases = [
        (None, 401),
        (Some(right.clone()), 200),
        (Some(right.replace("Basic", "bAsIc")), 200),
        (Some(login("alice", "wrong")), 401),
        (Some(login("alice", "")), 401),
        (Some(login("Alice", PASSWORD)), 401),
        (Some(login("bob", PASSWORD)), 401),
        (Some(login("", "")), 401),
        (Some(long), 401),
        (Some("Basic".to_owned()), 401),
        (Some("Basic !!!".to_owned()), 401),
        (Some(format!("Basic {}", BASE64_STANDARD.encode("alice"))), 401),
        (Some(right.replace("Basic", "Bearer")), 401),
    ];
    for (authorization, status) in &cases {
        for path in ["/metrics", "/", "/-/ready", "/api/v1/targets", "/nowhere"] {
            let response = get_as(addr, path, authorization.as_deref());
            let status = if path == "/nowhere" && *status == 200 { 404 } else { *status };
            assert_eq!(response.status, status, "{path} {authorization:?}");
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge.is_some_and(|value| value.starts_with("Basic realm=")), status == 401);
        }
        assert_eq!(get_as(addr, "/-/healthy", authorization.as_deref()).body, "OK\n");
    }
    for path in
        ["/-/healthy/", "//-/healthy", "/-/Healthy", "/metrics?/-/healthy", "/-/healthy/../../metrics"]
    {
        assert_eq!(get_as(addr, path, None).status, 401, "{path}");
    }
    let logs = exporter.logs();
    assert_eq!(lines_with(&logs, &["level=warn", "unencrypted"]).len(), 1, "{logs}");
    assert!(!logs.contains("$2") && !logs.contains(PASSWORD), "{logs}");
    // TLS and passwords together.
    let site = Site::new(&format!("{}{}", tls_text(&[]), users_text(4)));
    let exporter = site.start();
    let mut connection = Connection::over(site.client().connect(exporter.addr()).unwrap());
    assert_eq!(connection.get("/metrics").unwrap().status, 401);
    assert_eq!(connection.request("GET", "/metrics", &[("Authorization", &right)]).unwrap().status, 200);
    assert!(lines_with(&exporter.logs(), &["unencrypted"]).is_empty());
}

/// Returns the status of a scrape and its CPU time, which does not depend on other programs.
fn timed(exporter: &Exporter, authorization: &str) -> (u16, Duration) {
    let before = exporter.cpu_time();
    let status = get_as(exporter.addr(), "/metrics", Some(authorization)).status;
    (status, exporter.cpu_time().saturating_sub(before))
}

/// Verifying a hash of this cost takes a third of a second of CPU time or more; everything else takes a few milliseconds.
#[test]
fn passwords_are_verified_once_and_unknown_users_take_as_long() {
    let site = Site::new(&users_text(13));
    let exporter = site.start();
    let (status, first) = timed(&exporter, &login("alice", PASSWORD));
    assert_eq!(status, 200);
    let (status, again) = timed(&exporter, &login("alice", PASSWORD));
    assert_eq!(status, 200);
    assert!(first > again * 5, "the first time {first:?}, then {again:?}");
    let of_two = |user: &str| -> Duration {
        let tries = (0..2).map(|number| timed(&exporter, &login(user, &format!("wrong {number}"))));
        tries.inspect(|(status, _)| assert_eq!(*status, 401)).map(|(_, time)| time).sum()
    };
    let (wrong, unknown) = (of_two("alice"), of_two("mallory"));
    assert!(
        wrong < unknown * 2 && unknown < wrong * 2,
        "a wrong password {wrong:?}, an unknown user {unknown:?}"
    );
    assert!(unknown > again * 5, "an unknown user {unknown:?}, a known password {again:?}");
    let repeated = timed(&exporter, &login("alice", "wrong 0"));
    assert!(repeated.0 == 401 && repeated.1 * 5 < wrong, "{repeated:?} after {wrong:?}");
    println!("the first scrape {first:?}, a later one {again:?}, wrong passwords {wrong:?}");
}

#[test]
fn a_flood_of_wrong_passwords_does_not_delay_a_scrape() {
    let site = Site::new(&users_text(10));
    let exporter = site.start();
    let addr = exporter.addr();
    let right = login("alice", PASSWORD);
    assert_eq!(get_as(addr, "/metrics", Some(&right)).status, 200);
    let (done, refused, turned_away) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (mut known, mut new) = (Vec::new(), None);
    thread::scope(|scope| {
        for thread in 0..40 {
            let (done, refused, turned_away) = (&done, &refused, &turned_away);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let user = ["alice", "mallory"][number % 2];
                    let sent = login(user, &format!("{thread} {number}"));
                    // On a busy machine, a password is not verified in time.
                    let Ok(response) = try_get_as(addr, "/metrics", Some(&sent)) else { continue };
                    match response.status {
                        401 => refused.fetch_add(1, Ordering::Relaxed),
                        429 => {
                            thread::sleep(Duration::from_millis(20));
                            turned_away.fetch_add(1, Ordering::Relaxed)
                        }
                        status => panic!("{status}"),
                    };
                }
            });
        }
        let begun = Instant::now();
        while turned_away.load(Ordering::Relaxed) < 100 && begun.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..20 {
            let begun = Instant::now();
            known.push((get_as(addr, "/metrics", Some(&right)).status, begun.elapsed()));
        }
        // Also wrong, so that it must be verified.
        let mine = login("alice", "mine");
        let begun = Instant::now();
        let mut other = Connection::over(http::connect_from([127, 0, 0, 2], addr).unwrap());
        let status =
            other.request("GET", "/metrics", &[("Authorization", &mine)]).map(|response| response.status);
        new = Some((status, begun.elapsed()));
        // Set before any assertion can fail, because the threads must end.
        done.store(true, Ordering::Relaxed);
    });
    assert!(turned_away.load(Ordering::Relaxed) >= 100, "{turned_away:?} were turned away");
    // Requests with cached passwords do not wait for the others, and a first request from another address waits only
    // briefly.
    assert!(known.iter().all(|(status, _)| *status == 200), "{known:?}");
    let longest = known.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest < Duration::from_secs(4).mul_f64(load_per_core()), "a scrape took {longest:?}");
    let (status, took) = new.unwrap();
    assert_eq!(status.unwrap(), 401);
    println!("beside the flood: a known scrape at most {longest:?}, a new password {took:?}");
    println!("{refused:?} verified, {turned_away:?} turned away");
    assert_eq!(get_as(addr, "/metrics", Some(&right)).status, 200);
}
