//! Checks of the image that need no Docker engine. `make check-dockerfile` also runs the build commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use test_support::exporter::Exporter;

/// Instruction: its name and its arguments.
struct Instruction {
    name: String,
    words: String,
}

/// Returns the stages of the Dockerfile, each with its FROM and the instructions after it.
fn stages() -> Vec<Vec<Instruction>> {
    stages_of("Dockerfile")
}

/// Returns the stages of any Dockerfile.
fn stages_of(file: &str) -> Vec<Vec<Instruction>> {
    let text = read(file);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (name, words) = line.split_once(' ').expect("an instruction and what it is about");
        if name == "FROM" {
            stages.push(Vec::new());
        }
        let instruction = Instruction { name: name.to_owned(), words: words.trim().to_owned() };
        stages.last_mut().expect("FROM comes first").push(instruction);
    }
    stages
}

/// Returns the last instruction with this name in a stage, which is the one that takes effect.
fn last<'a>(stage: &'a [Instruction], name: &str) -> &'a str {
    let found = stage.iter().rev().find(|instruction| instruction.name == name);
    &found.unwrap_or_else(|| panic!("the stage has no {name}")).words
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[test]
fn copied_files_exist_and_are_not_ignored() {
    let ignore = read(".dockerignore");
    let let_through: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"), "all the rest stays out of the build context");

    let mut copied = BTreeSet::new();
    let stages = stages();
    for copy in stages.iter().flatten().filter(|instruction| instruction.name == "COPY") {
        let words: Vec<&str> = copy.words.split_whitespace().collect();
        if !words[0].starts_with("--from=") {
            copied.extend(words[..words.len() - 1].to_vec());
        }
    }
    for source in &copied {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists(), "{source} does not exist");
    }
    assert_eq!(copied, let_through, "copied, and let through by .dockerignore");
}

#[test]
fn the_build_is_locked_and_its_compiler_new_enough() {
    let stages = stages();
    let [builder, _] = &stages[..] else { panic!("two stages: builder and image") };
    for run in builder.iter().filter(|instruction| instruction.words.contains("cargo build")) {
        assert!(run.words.contains("--locked"), "{}", run.words);
    }
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let image = last(builder, "FROM").strip_prefix("rust:").unwrap().split('-').next().unwrap();
    assert!(version(image) >= version(env!("CARGO_PKG_RUST_VERSION")), "{image}");
}

#[test]
fn the_image_runs_without_root_and_without_a_shell() {
    let stages = stages();
    let image = stages.last().unwrap();
    let user = last(image, "USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().unwrap() > 0), "{user}");

    let entrypoint: Vec<String> = serde_json::from_str(last(image, "ENTRYPOINT")).expect("exec form");
    let (_, check) = last(image, "HEALTHCHECK").split_once("CMD ").unwrap();
    let check: Vec<String> = serde_json::from_str(check).expect("exec form");
    let installed = last(image, "COPY").rsplit_once('/').unwrap().1;
    assert_eq!(entrypoint, [installed]);
    assert_eq!(check, [installed, "healthcheck"]);
    assert!(
        image.iter().all(|instruction| instruction.name != "RUN"),
        "there is no shell to run anything in the final image"
    );
}

#[test]
fn the_image_of_a_release_runs_as_the_one_from_source() {
    let (source, release) = (stages(), stages_of("deploy/image/Dockerfile"));
    for name in ["USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"] {
        assert_eq!(last(source.last().unwrap(), name), last(release.last().unwrap(), name), "{name}");
    }
    let program = last(release.last().unwrap(), "COPY").split_whitespace().last().unwrap();
    assert_eq!(program, last(source.last().unwrap(), "COPY").split_whitespace().last().unwrap());
}

#[test]
fn images_contain_the_licences() {
    for image in [stages(), stages_of("deploy/image/Dockerfile")] {
        let licences: BTreeSet<&str> = image
            .last()
            .unwrap()
            .iter()
            .filter(|instruction| instruction.name == "COPY" && instruction.words.ends_with(" /licenses/"))
            .flat_map(|instruction| instruction.words.split_whitespace())
            .filter_map(|word| word.rsplit('/').next())
            .collect();
        for name in ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-LICENSES"] {
            assert!(licences.contains(name), "{name}: {licences:?}");
        }
    }
}

#[test]
fn the_port_is_the_one_that_the_exporter_listens_on() {
    let stages = stages();
    let port = last(stages.last().unwrap(), "EXPOSE");
    let help = Exporter::builder().args(&["--help"]).run();
    assert!(help.status.success());
    assert!(
        help.stdout.contains(&format!(":{port}]")),
        "the default of --web.listen-address: {}",
        help.stdout
    );
}
