//! Completion scripts and man pages, tested with the programs that read them. Also compares statements in documents with
//! the program, its source and each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::repository;
use test_support::exporter::Exporter;

#[test]
fn bash_completes_flags_with_dots() {
    let script = Exporter::builder().args(&["completions", "bash"]).run();
    assert!(script.status.success() && script.stderr.is_empty(), "{script:?}");
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("completions.bash");
    std::fs::write(&file, &script.stdout).unwrap();
    for (words, wanted, unwanted) in [
        (&["--redis."][..], "--redis.tls-ca-file", "--web.telemetry-path"),
        (&["che"], "check", "rules"),
        (&["check", "--redis.t"], "--redis.tls-insecure", "--redis.user"),
        (&["check", "--format", ""], "summary", "--redis.addr"),
        (&["rules", "--"], "--help", "--redis.addr"),
        (&["--log.level", ""], "trace", "--redis.addr"),
    ] {
        let code = "\
            set -u; source \"$1\"; shift; COMP_WORDS=(redis-script-exporter \"$@\"); COMP_CWORD=$#
            _redis__script__exporter redis-script-exporter \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        let output = bash.args(["--norc", "-c", code, "bash"]).arg(&file).args(words).output().unwrap();
        let replies = String::from_utf8(output.stdout).unwrap();
        let replies: Vec<&str> = replies.lines().collect();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(replies.contains(&wanted) && !replies.contains(&unwanted), "{words:?}: {replies:?}");
    }
}

#[test]
fn documents_show_nothing_of_the_environment() {
    for words in [&["man"][..], &["completions", "bash"], &["completions", "zsh"], &["completions", "fish"]] {
        let finished = Exporter::builder()
            .args(words)
            .env("REDIS_ADDR", "redis://:sesame@host")
            .env("REDIS_PASSWORD", "sesame")
            .run();
        assert!(finished.status.success() && finished.stdout.contains("redis"), "{finished:?}");
        assert!(!finished.stdout.contains("sesame"), "{words:?}");
    }
    let wrong = Exporter::builder().args(&["completions", "tcsh"]).run();
    assert_eq!((wrong.status.code(), wrong.stderr.lines().count()), (Some(64), 1), "{wrong:?}");
}

#[test]
fn groff_accepts_the_man_pages_without_a_warning() {
    if Command::new("groff").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let written = Exporter::builder().args(&["man", "--output", dir.path().to_str().unwrap()]).run();
    assert!(written.status.success() && written.stdout.lines().count() > 4, "{written:?}");
    for page in written.stdout.lines() {
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", page]).output().unwrap();
        assert!(output.status.success(), "{page}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{page}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("redis-script-exporter"), "{page}");
    }
}

/// Returns the source files by module name.
fn sources() -> BTreeMap<String, String> {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut folders = vec![repository("src"), repository("tests/integration")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                // Modules in mod.rs and tests in tests.rs have the name of their directory.
                let of_folder = path.ends_with("mod.rs") || path.ends_with("tests.rs");
                let named = if of_folder { path.parent().unwrap() } else { &path };
                let name = named.file_stem().unwrap().to_str().unwrap();
                *sources.entry(name.to_owned()).or_default() += &fs::read_to_string(&path).unwrap();
            }
        }
    }
    sources
}

#[test]
fn log_lines_that_documents_search_for_exist() {
    let sources = sources();
    let runbooks = fs::read_to_string(repository("docs/runbooks.md")).unwrap();
    let searched = runbooks.lines().filter(|line| line.contains("journalctl -u redis-script-exporter"));
    let texts: Vec<&str> =
        searched.filter_map(|line| line.split_once("| grep '")?.1.split('\'').next()).collect();
    assert!(texts.len() > 2, "{texts:?}");
    for text in texts {
        let message = text.trim_start_matches("message=").trim_matches('"');
        let is_logged = sources.values().any(|source| source.contains(message));
        assert!(is_logged, "no log message contains {message:?}");
    }
}

/// Each promise, in a table row or list item, names its tests, and these exist in the named files.
#[test]
fn each_promise_names_tests_that_exist() {
    let sources = sources();
    let (guarantees, security) = (
        fs::read_to_string(repository("docs/GUARANTEES.md")).unwrap(),
        fs::read_to_string(repository("SECURITY.md")).unwrap(),
    );
    let section = |text: &str, title: &str| {
        let (_, section) = text.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("{title}"));
        section.split("\n## ").next().unwrap().to_owned()
    };
    let rows = |section: String| {
        let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
        let heads = ["| guarantee |", "| threat |"];
        rows.filter(|row| !heads.iter().any(|head| row.starts_with(head)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let properties = section(&security, "Properties");
    // Of an item with a list, each item of that list.
    let items = properties.split("\n- ").skip(1).flat_map(|item| {
        let is_list = item.contains("\n  - ");
        item.split("\n  - ").skip(usize::from(is_list)).map(str::to_owned)
    });
    let advice = "A password on the command line is visible in the process list";
    let items = items.filter(|item| !item.starts_with(advice));
    let promises: Vec<String> = rows(section(&guarantees, "Guaranteed"))
        .into_iter()
        .chain(items)
        .chain(rows(section(&security, "Threats introduced by the guard")))
        .collect();
    assert!(promises.len() > 50, "{}", promises.len());
    for promise in &promises {
        let named = promise.split('`').skip(1).step_by(2).filter(|code| code.contains("::"));
        assert!(named.count() > 0, "this promise names no test: {promise}");
    }
    for code in [&guarantees, &security].into_iter().flat_map(|text| text.split('`').skip(1).step_by(2)) {
        let Some((modules, test)) = code.rsplit_once("::") else { continue };
        let file = modules.rsplit("::").next().unwrap();
        let source = sources.get(file).unwrap_or_else(|| panic!("{code}: there is no such file"));
        assert!(source.contains(&format!("fn {test}(")), "{code}: there is no such test");
    }
}

/// Returns the documents in the repository, with their relative paths.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    for folder in ["", "docs", "tests/lint"] {
        for entry in fs::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                documents.push((path.strip_prefix(repository("")).unwrap().to_owned(), text));
            }
        }
    }
    assert!(documents.len() > 15, "{} documents", documents.len());
    documents
}

/// Replaces every sequence of white space with a single space.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes fenced code blocks.
fn without_code(text: &str) -> String {
    text.split("\n```").step_by(2).map(|part| part.split_once('\n').map_or(part, |(_, rest)| rest)).collect()
}

/// Returns the anchors of the headings of a document, as generated by GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut links = 0;
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = repository("").join(path.parent().unwrap());
            let linked = if file.is_empty() { repository("").join(&path) } else { folder.join(file) };
            assert!(linked.exists(), "{}: {target}: there is no such file", path.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&linked).unwrap();
                assert!(
                    anchors(&text).contains(anchor),
                    "{}: {target}: there is no such heading",
                    path.display()
                );
            }
        }
    }
    assert!(links > 80, "{links} links");
}

#[test]
fn readme_and_architecture_are_short() {
    for document in ["README.md", "ARCHITECTURE.md"] {
        let lines = fs::read_to_string(repository(document)).unwrap().lines().count();
        assert!(lines <= 200, "{document} has {lines} lines");
    }
    // The generator writes the number to the page about libraries.
    let libraries = fs::read_to_string(repository("docs/libraries.md")).unwrap();
    let (_, number) = libraries.split_once(" distinct scripts of ").unwrap();
    let number = number.split_once(' ').unwrap().0;
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    assert!(readme.contains(&format!("[{number} public libraries]")), "{number} libraries");
    let picture = fs::metadata(repository("docs/status-page.png")).unwrap();
    assert!(picture.len() <= 100_000, "{} bytes", picture.len());
}

#[test]
fn the_plot_of_costs_is_that_of_the_table() {
    let mut plot = Command::new("python3");
    let plot = plot.arg(repository("scripts/scale-plot.py")).arg(repository("docs/performance.md"));
    let output = plot.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stored = fs::read_to_string(repository("docs/scale.svg")).unwrap();
    let hint = "stale: scripts/scale-plot.py > docs/scale.svg";
    assert!(String::from_utf8(output.stdout).unwrap() == stored, "{hint}");
}

/// Limits stated in documents: the document, the text around the limit (`{}`), and the source file with the constant.
const LIMITS: &[(&str, &str, &str)] = &[
    ("docs/scripts.md", "Limits: {} files,", "src/config/script_dirs.rs"),
    ("docs/scripts.md", "files, {} each ", "src/embedded/mod.rs"),
    ("docs/scripts.md", "({} in other languages)", "src/embedded/mod.rs"),
    ("docs/scripts.md", "languages), {} in total,", "src/config/script_dirs.rs"),
    ("docs/scripts.md", "directories {} deep", "src/config/script_dirs.rs"),
    ("docs/scripts.md", "At most {} are stored,", "src/script/catalogue/sources.rs"),
    ("docs/scripts.md", "with at most {} of each", "src/script/catalogue/sources.rs"),
    ("docs/configuration.md", "at most {} connections over all listeners", "src/web/server/connections.rs"),
    ("docs/configuration.md", "a request head of at most {} and", "src/web/server/mod.rs"),
    ("docs/configuration.md", "and {} headers, which", "src/web/server/mod.rs"),
    ("docs/configuration.md", "must arrive within {};", "src/web/server/mod.rs"),
    ("docs/configuration.md", "is aborted after {} without progress", "src/web/server/mod.rs"),
    ("docs/configuration.md", "slow clients stay under {},", "src/web/server/connections.rs"),
    ("docs/configuration.md", "within {} at startup, 1 s", "src/files.rs"),
    ("docs/how-it-works.md", "If more than {} are unread", "src/poll/log_file/follower.rs"),
    ("docs/how-it-works.md", "only the last {} is read", "src/poll/log_file/follower.rs"),
    ("docs/troubleshooting.md", "More than {} were added at once", "src/poll/log_file/follower.rs"),
    ("docs/troubleshooting.md", "is truncated to {} bytes", "src/logging/mod.rs"),
    ("docs/troubleshooting.md", "(sentences and command lines to {})", "src/logging/mod.rs"),
    ("docs/fleet.md", "An entry finds at most {} servers", "src/fleet/discovery/topology.rs"),
    ("docs/fleet.md", "all entries together {}.", "src/fleet/update.rs"),
    ("docs/fleet.md", "and none while there are {} to which", "src/fleet/discovery/newcomers.rs"),
    ("docs/fleet.md", "if none of them has listed it for {}.", "src/fleet/discovery/topology.rs"),
    ("docs/fleet.md", "waits up to {} for the first", "src/fleet/probes.rs"),
    ("docs/GUARANTEES.md", "use at most {} threads in total", "src/blocking.rs"),
    ("docs/GUARANTEES.md", "The latest {} are remembered:", "src/watch/account/position.rs"),
    ("docs/GUARANTEES.md", "is lost during INFO {} times in a row", "src/watch/exporter.rs"),
    ("docs/GUARANTEES.md", "closing the exporter's connection for {},", "src/watch/account/pace.rs"),
    ("docs/GUARANTEES.md", "or takes longer than {} (time", "src/fleet/persistence.rs"),
    ("docs/GUARANTEES.md", "for 7 days (at most {}, the most recent ones", "src/state/store.rs"),
    ("docs/GUARANTEES.md", "At most {} alerts wait for each,", "src/notify/outbox.rs"),
];

/// Parses a limit as written in documents, such as `1,000`, `8 KiB` or `1.5 s`. Returns bytes, milliseconds or a plain
/// number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "documents have small sizes")]
fn limit(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: f64 = number.replace(',', "").parse().unwrap_or_else(|_| panic!("{text:?} is no limit"));
    let factor = match unit {
        "" => 1.0,
        "KiB" => f64::from(1 << 10),
        "MiB" => f64::from(1 << 20),
        "s" => 1000.0,
        unit => panic!("{unit:?} is no unit"),
    };
    (number * factor) as u64
}

/// Returns the values of the constants in a source file; durations in milliseconds.
fn constants(source: &str) -> Vec<u64> {
    let text = fs::read_to_string(repository(source)).unwrap_or_else(|error| panic!("{source}: {error}"));
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    let value = |expression: &str| {
        if let Some((seconds, _)) =
            expression.split_once("from_secs(").and_then(|(_, rest)| rest.split_once(')'))
        {
            return Some(number(seconds)? * 1000);
        }
        if let Some((millis, _)) =
            expression.split_once("from_millis(").and_then(|(_, rest)| rest.split_once(')'))
        {
            return number(millis);
        }
        match expression.split_once("<<") {
            Some((base, shift)) => Some(number(base)? << number(shift)?),
            None => number(expression),
        }
    };
    let declared = text.lines().filter(|line| line.contains("const ") && line.ends_with(';'));
    declared.filter_map(|line| value(line.split_once(" = ")?.1.trim_end_matches(';'))).collect()
}

/// The defaults in the table of flags are compared with `--help` by another test.
#[test]
fn a_blockage_is_visible_after_the_sum_of_the_documented_defaults() {
    let table = fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let default = |flag: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{flag}` |"))).expect(flag);
        let value = row.split('|').nth(3).unwrap().trim().trim_matches('`');
        value.strip_suffix("ms").and_then(|value| value.parse::<u64>().ok()).expect(row)
    };
    let sum = default("--heartbeat.interval") + default("--heartbeat.blocked-after");
    for document in ["docs/GUARANTEES.md", "docs/how-it-works.md"] {
        let text = on_one_line(&fs::read_to_string(repository(document)).unwrap());
        assert!(text.contains(&format!("({sum} ms by default)")), "{document}: {sum} ms");
    }
}

#[test]
fn limits_in_documents_are_those_of_the_source() {
    for (document, words, source) in LIMITS {
        let text = on_one_line(&fs::read_to_string(repository(document)).unwrap());
        let (before, after) = words.split_once("{}").unwrap();
        let stated = text.split(before).skip(1).find_map(|rest| {
            let stated = rest.split_once(after)?.0;
            (stated.len() < 12).then_some(stated)
        });
        let stated = stated.unwrap_or_else(|| panic!("{document} does not say {words:?}"));
        let constants = constants(source);
        assert!(constants.contains(&limit(stated)), "{document}: {stated}; {source} has {constants:?}");
    }
}

/// Scripts that documents mention with a SHA1 are in the packages of `tests/lint/real.txt`, or are found by `catalogue
/// lookup`.
#[test]
fn named_scripts_have_the_sha1_that_documents_state() {
    let packages = fs::read_to_string(repository("tests/lint/real.txt")).unwrap();
    let text = on_one_line(&fs::read_to_string(repository("docs/scripts.md")).unwrap());
    let codes: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let is_sha1 = |code: &&str| code.len() >= 12 && code.chars().all(|c| c.is_ascii_hexdigit());
    let stated: Vec<&str> = codes.iter().copied().filter(is_sha1).collect();
    assert!(!stated.is_empty(), "an example is there");
    for sha1 in stated {
        let package = packages.lines().find_map(|line| {
            let (path, known) = line.split_once(' ')?;
            known.starts_with(sha1).then_some(path)
        });
        let Some(path) = package else {
            let lookup = Exporter::builder().args(&["catalogue", "lookup", sha1]).run();
            assert_eq!(lookup.status.code(), Some(0), "{sha1} is the SHA1 of no known script");
            let (_, name) = lookup.stdout.lines().nth(1).unwrap().split_once(": ").unwrap();
            let name = name.split(',').next().unwrap();
            assert!(codes.iter().any(|code| code.ends_with(&format!("/{name}"))), "{sha1} is {name}");
            continue;
        };
        let named = codes.iter().any(|code| {
            code.strip_suffix("lua").is_some_and(|stem| stem.ends_with('.')) && path.ends_with(code)
        });
        assert!(named, "{sha1} is the SHA1 of {path}, which the document does not name");
    }
}

/// Units that are used only for measurements. Limits and settings use other units, or are stated as a promise ("under
/// 60 MB").
const MEASURED: [&str; 5] =
    ["µs per second", "µs a second", "requests/s", "requests a second", "requests per second"];

#[test]
fn measurements_are_in_one_document() {
    let mut measured = 0;
    for (path, text) in documents() {
        let text = on_one_line(&text);
        let figures = MEASURED.iter().filter(|unit| text.contains(**unit)).count()
            + text.matches(" MB").count()
            - ["under 60 MB", "under 100 MB", "under 128 MB"]
                .iter()
                .map(|promise| text.matches(promise).count())
                .sum::<usize>()
            + text.matches("p50").count();
        if path == Path::new("docs/performance.md") {
            measured = figures;
        } else {
            assert_eq!(figures, 0, "{}: a measurement belongs in docs/performance.md", path.display());
        }
    }
    assert!(measured > 10, "{measured}");
}

/// Returns the words of the `ACL SETUSER exporter` lines of the README, without the password.
fn acl_lines() -> Vec<BTreeSet<String>> {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let lines = readme.lines().filter_map(|line| line.strip_prefix("ACL SETUSER exporter "));
    lines.map(rules).collect()
}

fn rules(line: &str) -> BTreeSet<String> {
    line.split_whitespace().filter(|word| !word.starts_with('>')).map(str::to_owned).collect()
}

#[test]
fn the_smallest_user_is_the_same_everywhere() {
    let readme = acl_lines();
    let compose = fs::read_to_string(repository("deploy/compose/redis.conf")).unwrap();
    let user = compose.lines().find_map(|line| line.strip_prefix("user exporter ")).expect("the user");
    assert_eq!(rules(user), readme[0], "deploy/compose/redis.conf, and the README");
    // The table that explains each grant.
    let text = fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `+"));
    let explained: BTreeSet<String> = rows
        .flat_map(|row| {
            row.replace("\\|", "\u{0}")
                .split('|')
                .nth(1)
                .unwrap()
                .replace('\u{0}', "|")
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|grant| grant.trim().trim_matches('`').to_owned())
        .collect();
    let granted: BTreeSet<String> = readme[0].iter().filter(|word| word.starts_with('+')).cloned().collect();
    assert_eq!(explained, granted, "docs/configuration.md, and the README");
}

/// Paths in documents, relative to the repository or `src/`, refer to existing files.
#[test]
fn files_that_documents_name_exist() {
    let folders = ["", "src", "src/web", "tests/integration", "deploy/prometheus", "deploy/compose", "docs"];
    let mut named = 0;
    for (path, text) in documents() {
        if ["CHANGELOG.md", "docs/scripts.md"].iter().any(|other| path == Path::new(other)) {
            continue;
        }
        for code in without_code(&text).split('`').skip(1).step_by(2) {
            let is_file = [".rs", ".sh", ".md"].iter().any(|ending| code.ends_with(ending));
            if !is_file || !code.contains('/') || code.contains([' ', '*', '$']) || code.starts_with('/') {
                continue;
            }
            named += 1;
            let exists = folders.iter().any(|folder| repository(folder).join(code).exists());
            assert!(exists, "{}: there is no {code}", path.display());
        }
    }
    assert!(named > 30, "{named} files");
}

#[test]
fn each_runbook_begins_with_what_the_guard_has_done() {
    let text = std::fs::read_to_string(repository("docs/runbooks.md")).unwrap();
    let sections: Vec<(&str, &str)> =
        text.split("\n## Redis").skip(1).map(|section| section.split_once("\n\n").unwrap()).collect();
    assert!(sections.len() >= 19, "{}", sections.len());
    for (name, section) in sections {
        assert!(section.starts_with("**What the guard has done.** "), "Redis{name}: {section}");
    }
}
