//! Structure of the sources: pure directories, imports between modules, and the number and size of files outside the
//! directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::common::repository;

/// Files and directories of `src/` that do no I/O and take the time as an argument. Those that do not exist are ignored.
const PURE: &[&str] = &[
    "parse",
    "script",
    "watch",
    "guard",
    "lint",
    "embedded",
    "lua",
    "diagnosis",
    "fleet/compose",
    "notify/alert",
    "notify/outbox",
    "notify/scrapes",
    "notify/text",
    "notify/tracker",
];

/// Paths that pure code must not use. Addresses come from `core::net`; `std::io` is allowed for its traits.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net",
    "std::os",
    "std::process",
    "std::thread::sleep",
    "std::time::Instant",
    "std::time::SystemTime",
    "crate::clock::Clock",
];

/// Modules with I/O, which pure directories must not use. The list does not apply to `fleet` and `notify`, because their
/// pure files use types from neighbouring modules.
const IO_MODULES: &[&str] = &[
    "crate::blocking",
    "crate::cli",
    "crate::client",
    "crate::commands",
    "crate::files",
    "crate::logging",
    "crate::metrics",
    "crate::poll",
    "crate::state",
    "crate::web",
];

/// Maximum number of loose files in `src/`.
const MAX_LOOSE_FILES: usize = 8;

/// Maximum number of lines of `main.rs`.
const MAX_MAIN: usize = 60;

/// Non-test code of a source file below `src/`.
struct Source {
    /// Path below `src/`.
    path: PathBuf,
    /// Paths that are imported or used, such as `std::fs::read`.
    used: BTreeSet<String>,
}

impl Source {
    /// Name of the file or directory directly below `src/`.
    fn module(&self) -> String {
        let first = Path::new(self.path.iter().next().unwrap());
        first.file_stem().unwrap().to_str().unwrap().to_owned()
    }

    fn uses(&self, path: &str) -> bool {
        self.used
            .iter()
            .any(|used| used.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    }
}

/// Returns all source files except those that are compiled only for tests.
fn sources() -> Vec<Source> {
    let root = repository("src");
    let (mut sources, mut for_tests) = (Vec::new(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let tokens: TokenStream = fs::read_to_string(&path).unwrap().parse().unwrap();
                let mut modules = Vec::new();
                let code = without_tests(tokens, &mut modules);
                let folder = match path.file_stem().unwrap().to_str().unwrap() {
                    "mod" | "lib" | "main" => path.parent().unwrap().to_owned(),
                    _ => path.with_extension(""),
                };
                for_tests.extend(modules.iter().map(|module| folder.join(module)));
                let mut used = BTreeSet::new();
                collect_paths(code, &[], &mut used);
                sources.push(Source { path, used });
            }
        }
    }
    sources.retain(|source| {
        !for_tests.iter().any(|path| source.path.with_extension("") == *path || source.path.starts_with(path))
    });
    for source in &mut sources {
        source.path = source.path.strip_prefix(&root).unwrap().to_owned();
    }
    sources
}

/// Removes items with `#[cfg(test)]` or `#[cfg(any(fuzzing, test))]`, and collects the names of those that are modules with
/// their own files.
fn without_tests(tokens: TokenStream, modules: &mut Vec<String>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket && is_cfg_test(&group.stream()) =>
            {
                // Remove the # of the attribute.
                kept.pop();
                let mut item = Vec::new();
                for token in tokens.by_ref() {
                    let is_end = match &token {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        TokenTree::Punct(punct) => punct.as_char() == ';',
                        _ => false,
                    };
                    item.push(token.to_string());
                    if is_end {
                        break;
                    }
                }
                if let [.., keyword, name, end] = &item[..]
                    && keyword == "mod"
                    && end == ";"
                {
                    modules.push(name.clone());
                }
            }
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream(), modules).into_iter().collect();
                kept.push(proc_macro2::Group::new(group.delimiter(), inner).into());
            }
            token => kept.push(token),
        }
    }
    kept
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    // Code for fuzzing is treated as test code.
    ["cfg(test)", "cfg(any(fuzzing,test))"].contains(&attribute.to_string().replace(' ', "").as_str())
}

/// Collects all paths. Paths in braces after `::` are prefixed with the path before the braces.
fn collect_paths(tokens: Vec<TokenTree>, prefix: &[String], paths: &mut BTreeSet<String>) {
    let mut path = prefix.to_vec();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                // An entry in braces begins with the prefix.
                if colons != 2 && path.len() > prefix.len() {
                    paths.insert(path.join("::"));
                    path = prefix.to_vec();
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Group(group) => {
                let continues = colons == 2 && group.delimiter() == Delimiter::Brace;
                let inner = group.stream().into_iter().collect();
                if continues {
                    collect_paths(inner, &path, paths);
                } else {
                    paths.insert(path.join("::"));
                    collect_paths(inner, &[], paths);
                }
                path = prefix.to_vec();
                colons = 0;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                paths.insert(path.join("::"));
                path = prefix.to_vec();
                colons = 0;
            }
        }
    }
    paths.insert(path.join("::"));
}

#[test]
fn pure_folders_do_no_io_and_read_no_clock() {
    let is_pure = |path: &Path| {
        PURE.iter().any(|pure| path.starts_with(pure) || path.with_extension("") == Path::new(pure))
    };
    let sources: Vec<Source> = sources().into_iter().filter(|source| is_pure(&source.path)).collect();
    assert!(sources.len() > 30, "{}", sources.len());
    for source in sources {
        for path in IMPURE {
            assert!(!source.uses(path), "{} uses {path}", source.path.display());
        }
        for path in IO_MODULES.iter().filter(|_| !["fleet", "notify"].contains(&source.module().as_str())) {
            assert!(!source.uses(path), "{} uses {path}", source.path.display());
        }
    }
}

#[test]
fn modules_import_each_other_in_one_direction() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let module = source.module();
        let used = source.used.iter().filter_map(|path| path.strip_prefix("crate::")?.split("::").next());
        let others = used.filter(|other| *other != module);
        let others: BTreeSet<String> = others.map(str::to_owned).collect();
        imports.entry(module).or_default().extend(others);
    }
    assert!(imports["fleet"].contains("config"), "{imports:?}");
    // Modules that import none of the others, or are imported by none of the others, are not part of a cycle.
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, used| used.iter().any(|module| left.contains(module)));
        let imported: BTreeSet<String> = imports.values().flatten().cloned().collect();
        imports.retain(|module, _| imported.contains(module));
        if imports.len() == left.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "circles: {imports:#?}");
}

/// Files that build commands: monitoring and the guard, AUTH, and `rehearse`.
const BUILD_COMMANDS: [&str; 4] = [
    "client/connection.rs",
    "commands/rehearse/sample.rs",
    "commands/rehearse/session.rs",
    "parse/command.rs",
];

/// All commands are built in one file, except AUTH and those of `rehearse`.
#[test]
fn monitoring_sends_only_the_commands_of_one_file() {
    let builds = |source: &Source| {
        let items =
            source.used.iter().filter_map(|path| path.trim_start_matches("use::").strip_prefix("redis::"));
        let mut names = items.filter_map(|path| path.split("::").next());
        names.any(|name| ["cmd", "Cmd", "pipe", "Pipeline", "Client", "aio"].contains(&name))
    };
    let sources = sources();
    let building: BTreeSet<&str> =
        sources.iter().filter(|source| builds(source)).map(|source| source.path.to_str().unwrap()).collect();
    assert_eq!(building, BUILD_COMMANDS.into());
    let connection = fs::read_to_string(repository("src/client/connection.rs")).unwrap();
    assert_eq!((connection.matches("cmd(").count(), connection.matches("cmd(AUTH)").count()), (1, 1));
    // The only function that takes any command is used by `rehearse`.
    let any: BTreeSet<PathBuf> = sources
        .iter()
        .map(|source| source.path.clone())
        .filter(|path| fs::read_to_string(repository("src").join(path)).unwrap().contains(".send_any("))
        .collect();
    assert!(any.iter().all(|path| path.starts_with("commands/rehearse")), "{any:?}");
}

/// The only C file sets the parameters of an allocator.
#[test]
fn there_is_no_unsafe_code_and_one_crypto_provider() {
    let manifest = fs::read_to_string(repository("Cargo.toml")).unwrap();
    assert!(manifest.contains("\nunsafe_code = \"forbid\"\n"));
    let locked = fs::read_to_string(repository("Cargo.lock")).unwrap();
    let has = |name: &str| locked.contains(&format!("\nname = \"{name}\"\n"));
    assert!(has("ring") && has("rustls"));
    for other in ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"] {
        assert!(!has(other), "{other}");
    }
    let (mut in_c, mut folders) = (Vec::new(), vec![repository("src")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
                in_c.push(path);
            }
        }
    }
    assert_eq!(in_c, [repository("src/allocator.c")]);
    let allocator = fs::read_to_string(&in_c[0]).unwrap();
    assert_eq!((allocator.lines().count(), allocator.matches("mallopt(").count()), (20, 2), "SECURITY.md");
}

#[test]
fn few_files_stand_beside_the_folders() {
    let files = fs::read_dir(repository("src")).unwrap().map(|entry| entry.unwrap().path());
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let files: Vec<PathBuf> = files.filter(|path| path.is_file() && is_rust(path)).collect();
    assert!(files.len() <= MAX_LOOSE_FILES, "{files:?}");
    let main = fs::read_to_string(repository("src/main.rs")).unwrap();
    assert!(main.lines().count() <= MAX_MAIN, "src/main.rs is for choosing what to run");
}

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    let is_question = |line: &str| {
        let text = line.trim_start().strip_prefix("///").or_else(|| line.trim_start().strip_prefix("//!"));
        text.is_some_and(|text| {
            [" What ", " Who ", " Whether ", " How "].iter().any(|word| text.starts_with(word))
        })
    };
    let mut questions = Vec::new();
    let mut paths: Vec<PathBuf> = ["src", "benches", "examples", "tests"].map(repository).into();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().enumerate().filter(|(_, line)| is_question(line));
            questions.extend(lines.map(|(index, line)| format!("{}:{}: {line}", path.display(), index + 1)));
        }
    }
    assert!(questions.is_empty(), "{}", questions.join("\n"));
}

#[test]
fn paths_are_collected_from_imports_and_from_code() {
    let code = "
        //! tokio::spawn
        use std::{fs::{self, File}, net as n, io::Read};
        fn f(at: std::time::Instant) -> &'static str { crate::files::read(&[at]); \"std::env\" }
        #[cfg(test)]
        use std::process::Command;
        #[cfg(test)]
        mod corpus;
        #[cfg(test)]
        mod tests { use std::thread; }
        impl S { #[cfg(test)] fn g(&self) { std::os::x() } }
    ";
    let mut modules = Vec::new();
    let code = without_tests(code.parse().unwrap(), &mut modules);
    assert_eq!(modules, ["corpus"]);
    let mut used = BTreeSet::new();
    collect_paths(code, &[], &mut used);
    let source = Source { path: PathBuf::from("x.rs"), used };
    for path in
        ["std::fs", "std::fs::File", "std::net", "std::io::Read", "std::time::Instant", "crate::files"]
    {
        assert!(source.uses(path), "{path}: {:?}", source.used);
    }
    for path in ["tokio", "std::env", "std::process", "std::thread", "std::os", "std::f"] {
        assert!(!source.uses(path), "{path}: {:?}", source.used);
    }
}

/// Row of the table of modules in ARCHITECTURE.md.
struct Row {
    /// Position in the table; a module imports only modules of rows below its own.
    position: usize,
    /// True if the table marks the module as pure.
    pure: bool,
    /// Modules that the module imports.
    imports: BTreeSet<String>,
}

/// Returns the table of modules in ARCHITECTURE.md.
fn table() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(repository("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## Modules\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.enumerate()
        .map(|(position, line)| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let imports = cells[4].split_whitespace().map(|name| name.trim_matches('`').to_owned()).collect();
            let row = Row { position, pure: cells[3] == "yes", imports };
            (cells[1].trim_matches('`').to_owned(), row)
        })
        .collect()
}

#[test]
fn modules_and_their_imports_are_those_of_the_table() {
    let table = table();
    let sources = sources();
    let modules: BTreeSet<String> =
        sources.iter().map(Source::module).filter(|module| module != "main").collect();
    assert_eq!(modules, table.keys().cloned().collect(), "modules in src/, and rows of the table");
    for (module, row) in &table {
        let is_listed = PURE.contains(&module.as_str()) || ["convert", "text"].contains(&module.as_str());
        assert_eq!(row.pure, is_listed, "{module} is pure");
        for import in &row.imports {
            let imported = table.get(import).unwrap_or_else(|| panic!("{module}: {import} has no row"));
            assert!(imported.position > row.position, "{module} imports {import}, which is above it");
        }
    }
    let mut others = BTreeSet::new();
    let mut unused: BTreeSet<(String, String)> = table
        .iter()
        .flat_map(|(module, row)| row.imports.iter().map(|import| (module.clone(), import.clone())))
        .collect();
    for source in &sources {
        let module = source.module();
        let Some(row) = table.get(&module) else { continue };
        for used in source.used.iter().filter_map(|path| path.strip_prefix("crate::")?.split("::").next()) {
            unused.remove(&(module.clone(), used.to_owned()));
            if used != module && table.contains_key(used) && !row.imports.contains(used) {
                others.insert(format!("{} imports {used}", source.path.display()));
            }
        }
    }
    assert!(others.is_empty(), "imports that the table does not list: {others:#?}");
    assert!(unused.is_empty(), "imports in the table that no file has: {unused:#?}");
}

#[test]
fn the_files_that_read_a_clock_are_those_of_the_list() {
    let text = fs::read_to_string(repository("ARCHITECTURE.md")).unwrap();
    let (_, list) = text.split_once("Files that read a clock:").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let listed: BTreeSet<&Path> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.strip_prefix("src/"))
        .map(Path::new)
        .collect();
    let reads_a_clock = |source: &&Source| {
        let mut used = source.used.iter();
        used.any(|path| {
            ["Instant::now", "SystemTime::now"].iter().any(|call| path.ends_with(call))
                || path == "elapsed"
                || path == "format_time"
        })
    };
    let sources = sources();
    let reading: BTreeSet<&Path> =
        sources.iter().filter(reads_a_clock).map(|source| source.path.as_path()).collect();
    assert_eq!(listed, reading, "the list in ARCHITECTURE.md, and files that read a clock");
}
