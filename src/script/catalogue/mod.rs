//! Catalogue of script names, from the source files of the scripts or from the bundled catalogue of libraries. It performs no
//! I/O; the configuration reads the files.

mod bundled;
mod file;
mod forms;
mod lua;
mod naming;
mod sources;
mod template;

use std::cmp::Reverse;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(crate) use self::bundled::{Bundled, Owner};
pub(crate) use self::file::ScriptFile;
use self::forms::{forms, unmarked};
pub(crate) use self::lua::Library;
use self::naming::{Remark, path_of, shortened, unused_name};
pub(crate) use self::sources::Sources;
use self::template::{MAX_TEMPLATES, Template, only_match};
use crate::script::identity::{Identity, Label, NamedScript, Origin};
use crate::script::sha1::Sha1Digits;

/// Script in the catalogue.
#[derive(Debug, Clone)]
struct CatalogueEntry {
    /// Name of the script.
    label: Label,
    /// Body as found in the file.
    body: Arc<[u8]>,
}

/// Scripts that have the same label when truncated by the slow log.
#[derive(Debug, Clone)]
enum CutScripts {
    /// One script: its index and SHA1.
    One(usize, Sha1Digits),
    /// Several scripts of the same length and with the same first 128 bytes.
    Several,
}

/// Names of scripts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    /// Scripts; the maps below contain indices into this list.
    scripts: Vec<CatalogueEntry>,
    /// Index of a script, by the SHA1 of each form in which it may be sent.
    sha1s: HashMap<Sha1Digits, usize>,
    /// Scripts by the label of each form that the slow log truncates.
    cut: HashMap<Label, CutScripts>,
    /// Name and index of the library, by function name in lower case.
    functions: HashMap<String, (Label, usize)>,
    /// Scripts that programs complete at run time.
    templates: Vec<Template>,
    /// Scripts of public libraries; the names above take precedence.
    bundled: Option<Bundled>,
}

impl Catalogue {
    /// Creates a catalogue of the scripts in these files. If two scripts would have the same name, the first one keeps it.
    #[must_use]
    pub(crate) fn new(files: &[ScriptFile]) -> (Self, Vec<Remark>) {
        let mut catalogue = Self::default();
        let (mut remarks, mut used) = (Vec::new(), HashSet::new());
        for file in files {
            for (part, body) in &file.scripts {
                catalogue.add(file, part, body, &mut used, &mut remarks);
            }
            for (part, fixed) in &file.templates {
                remarks.push(catalogue.add_template(&path_of(file, part), fixed));
            }
        }
        (catalogue, remarks)
    }

    fn add(
        &mut self,
        file: &ScriptFile,
        part: &str,
        body: &[u8],
        used: &mut HashSet<Label>,
        remarks: &mut Vec<Remark>,
    ) {
        let path = path_of(file, part);
        let mut remark = |is_warning, text| remarks.push(Remark { is_warning, text });
        if let Some(first) = self.sha1s.get(&Sha1Digits::of(body)).and_then(|index| self.scripts.get(*index))
        {
            remark(
                false,
                format!("{path:?} is the same script as {:?} and has the same name", first.label.as_str()),
            );
            return;
        }
        let label = unused_name(file, &path, body, used, &mut remark);
        let index = self.scripts.len();
        for form in forms(body) {
            let sha1 = Sha1Digits::of(&form);
            if let Some(other) = self.add_form(&form, sha1, index) {
                remark(
                    true,
                    format!(
                        "{path:?} and {:?} have the same length and the same first 128 bytes, which is all that the \
                         slow log keeps of an EVAL: calls of either have no name; put a different comment in the first \
                         line of each, or use EVALSHA",
                        other.as_str()
                    ),
                );
            }
            self.sha1s.entry(sha1).or_insert(index);
        }
        let library = Library::parse(unmarked(body));
        for function in library.map(|library| library.functions).unwrap_or_default() {
            let name = shortened(&format!("{label}:{function}"));
            match self.functions.entry(function.to_ascii_lowercase()) {
                MapEntry::Vacant(vacant) => {
                    vacant.insert((name, index));
                }
                MapEntry::Occupied(first) => remark(
                    false,
                    format!(
                        "{path:?} registers the function {:?}, which is named {:?} after another file",
                        first.key(),
                        first.get().0.as_str()
                    ),
                ),
            }
        }
        self.scripts.push(CatalogueEntry { label, body: body.into() });
    }

    fn add_template(&mut self, path: &str, parts: &[Vec<u8>]) -> Remark {
        let label = shortened(&format!("{path} (template)"));
        let template = Template::new(label, parts).filter(|_| self.templates.len() < MAX_TEMPLATES);
        let remark = if template.is_some() {
            "an EVAL of it is recognized by its fixed parts; an EVALSHA has no name"
        } else {
            "calls of it have no name"
        };
        self.templates.extend(template);
        let text = format!("{path:?} is a template, which the program completes at run time: {remark}");
        Remark { is_warning: false, text }
    }

    /// Returns the catalogue with the bundled names of library scripts. Names from files take precedence.
    #[must_use]
    pub(crate) fn with_bundled(self) -> Self {
        self.with_libraries(Bundled::new())
    }

    /// Adds the library to the names of its scripts in files, unless the name already contains it, because `lib/limit.js` alone
    /// is not specific enough.
    fn with_libraries(mut self, bundled: Option<Bundled>) -> Self {
        self.bundled = bundled;
        let mut libraries: Vec<HashSet<&'static str>> = vec![HashSet::new(); self.scripts.len()];
        for (sha1, index) in &self.sha1s {
            let owners = bundled.iter().flat_map(|bundled| bundled.owners(*sha1));
            if let Some(libraries) = libraries.get_mut(*index) {
                libraries.extend(owners.map(|owner| owner.library));
            }
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for library in libraries.iter().flatten() {
            *counts.entry(*library).or_default() += 1;
        }
        for (script, libraries) in self.scripts.iter_mut().zip(&libraries) {
            // If there are several libraries, use the one with the most scripts in these files.
            let library = libraries.iter().max_by_key(|library| (counts.get(**library), Reverse(**library)));
            if let Some(library) = library.filter(|library| !script.label.as_str().contains(**library)) {
                script.label = shortened(&format!("{library}/{}", script.label));
            }
        }
        self
    }

    /// Adds a form if the slow log truncates it. Returns the name of another script that the slow log can't distinguish from it,
    /// only for the first conflict.
    fn add_form(&mut self, form: &[u8], sha1: Sha1Digits, index: usize) -> Option<Label> {
        match self.cut.entry(Identity::cut_label(form)?) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(CutScripts::One(index, sha1));
                None
            }
            MapEntry::Occupied(mut occupied) => {
                let CutScripts::One(other, _) = *occupied.get() else { return None };
                if other == index {
                    return None;
                }
                occupied.insert(CutScripts::Several);
                self.scripts.get(other).map(|script| script.label.clone())
            }
        }
    }

    /// Returns a script with its name. The identity does not depend on the catalogue.
    #[must_use]
    pub(crate) fn named(&self, script: &Identity) -> NamedScript {
        let label = script.label.clone();
        if let Some((name, _, sha1)) = self.find(script) {
            let (name, sha1) = (name.clone(), script.sha1.or(sha1));
            return NamedScript { label, name, sha1, origin: Origin::Catalogue };
        }
        // A truncated body that matches several scripts from files is one of those.
        let is_ambiguous = script.sha1.is_none() && self.cut.contains_key(&script.label);
        let bundled = self.bundled.filter(|_| script.name.is_empty() && !is_ambiguous);
        if let Some((name, sha1)) = bundled.and_then(|bundled| bundled.named(script)) {
            return NamedScript { label, name, sha1: Some(sha1), origin: Origin::Bundled };
        }
        let template = script.beginning.get().filter(|_| !is_ambiguous);
        let template = template.and_then(|(head, length)| only_match(&self.templates, head, length));
        if let Some(name) = template {
            return NamedScript { label, name: name.clone(), sha1: script.sha1, origin: Origin::Template };
        }
        NamedScript { label, name: script.own_name(), sha1: script.sha1, origin: script.origin }
    }

    /// Returns the source of a script, or of the library of a function, as found in its file.
    #[must_use]
    pub(crate) fn source(&self, script: &Identity) -> Option<&Arc<[u8]>> {
        let (_, index, _) = self.find(script)?;
        self.scripts.get(index).map(|script| &script.body)
    }

    /// Returns the SHA1s in this catalogue, without the bundled ones, that begin with these digits.
    pub(crate) fn with_prefix(&self, digits: &str) -> impl Iterator<Item = Sha1Digits> {
        self.sha1s.keys().copied().filter(move |sha1| sha1.as_str().starts_with(digits))
    }

    /// Number of scripts and of functions.
    #[must_use]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.scripts.len(), self.functions.len())
    }

    /// Returns the name and index of a script, and its SHA1 if the script was found by the beginning of its body.
    fn find(&self, script: &Identity) -> Option<(&Label, usize, Option<Sha1Digits>)> {
        if !script.name.is_empty() {
            let (label, index) = self.functions.get(&script.name)?;
            return Some((label, *index, None));
        }
        let (index, sha1) = match script.sha1.and_then(|sha1| self.sha1s.get(&sha1)) {
            Some(index) => (*index, None),
            None => match self.cut.get(&script.label)? {
                CutScripts::One(index, sha1) => (*index, Some(*sha1)),
                CutScripts::Several => return None,
            },
        };
        self.scripts.get(index).map(|script| (&script.label, index, sha1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Call;

    fn file(folder: &str, path: &str, content: &str) -> ScriptFile {
        ScriptFile::new(folder, path, content.as_bytes().to_vec(), &mut || false).unwrap()
    }

    fn called(command: &str, script: &[u8]) -> Identity {
        // As recorded in the slow log.
        let script = match script.split_at_checked(128) {
            Some((head, tail)) if !tail.is_empty() => {
                [head, format!("... ({} more bytes)", tail.len()).as_bytes()].concat()
            }
            _ => script.to_vec(),
        };
        Call::from_arguments(&[command.as_bytes().to_vec(), script, b"0".to_vec()]).unwrap().script
    }

    fn name(catalogue: &Catalogue, command: &str, script: &[u8]) -> String {
        let (script, bare) = (called(command, script), Catalogue::default());
        assert_eq!(
            catalogue.named(&script).label,
            bare.named(&script).label,
            "no catalogue changes the identity"
        );
        catalogue.named(&script).name.to_string()
    }

    fn long(end: &str) -> String {
        format!("-- {}\nreturn 1\n{end}", "x".repeat(150))
    }

    #[test]
    fn every_form_of_every_call_has_the_files_name() {
        let (short, long) = ("return 1\n-- two\n", long(""));
        let files = [file("d", "short.lua", short), file("d", "a/long.lua", &long)];
        let (catalogue, remarks) = Catalogue::new(&files);
        assert_eq!(remarks, []);
        for (path, body) in [("short.lua", short), ("a/long.lua", &long)] {
            for sent in [
                body.to_owned(),
                body.trim_end().to_owned(),
                body.replace('\n', "\r\n"),
                body.replace('\n', "\r\n").trim_end().to_owned(),
            ] {
                assert_eq!(name(&catalogue, "EVAL", sent.as_bytes()), path, "{sent:?}");
                assert_eq!(
                    name(&catalogue, "EVALSHA", Sha1Digits::of(sent.as_bytes()).as_str().as_bytes()),
                    path
                );
            }
            let cut = catalogue.named(&called("EVAL_RO", body.as_bytes()));
            assert_eq!((cut.sha1, cut.origin), (Some(Sha1Digits::of(body.as_bytes())), Origin::Catalogue));
        }
        assert_eq!(name(&catalogue, "EVAL", b"return 2"), called("EVAL", b"return 2").label.as_str());
    }

    #[test]
    fn a_file_is_recognized_without_its_bom_and_windows_line_endings() {
        let (catalogue, _) = Catalogue::new(&[file("d", "w.lua", "\u{feff}\r\n return 1\r\nreturn 2\r\n")]);
        for sent in ["return 1\nreturn 2", "\n return 1\nreturn 2", "\r\n return 1\r\nreturn 2\r\n"] {
            assert_eq!(name(&catalogue, "EVAL", sent.as_bytes()), "w.lua", "{sent:?}");
        }
    }

    #[test]
    fn functions_are_named_after_their_file_and_function() {
        let library = "#!lua name=mylib\nredis.register_function('one', f) redis.register_function('two', f)";
        let (catalogue, _) = Catalogue::new(&[file("d", "lib/my.lua", library)]);
        assert_eq!(name(&catalogue, "FCALL", b"one"), "lib/my.lua:one");
        assert_eq!(name(&catalogue, "FCALL_RO", b"two"), "lib/my.lua:two");
        assert_eq!(name(&catalogue, "FCALL", b"three"), "three");
        assert_eq!(name(&catalogue, "FCALL", b"ONE"), "lib/my.lua:one");
        let one = called("FCALL", b"one");
        assert_eq!(catalogue.source(&one).unwrap()[..], *library.as_bytes());
        let one = catalogue.named(&one);
        assert_eq!((one.label.as_str(), one.sha1, one.origin), ("one", None, Origin::Catalogue));
    }

    #[test]
    fn equal_scripts_share_a_name_and_equal_names_are_made_distinct() {
        let files = [
            file("bull", "lock.lua", "return 1"),
            file("jobs", "copy.lua", "return 1"),
            file("jobs", "lock.lua", "return 2"),
            file("jobs", "lock.lua", "return 3"),
        ];
        let (catalogue, remarks) = Catalogue::new(&files);
        let names: Vec<String> =
            ["return 1", "return 2", "return 3"].map(|body| name(&catalogue, "EVAL", body.as_bytes())).into();
        assert_eq!(names, ["lock.lua", "jobs/lock.lua", "jobs/lock.lua (2)"]);
        assert_eq!(remarks.iter().filter(|remark| remark.is_warning).count(), 0);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
    }

    #[test]
    fn scripts_that_look_alike_in_the_slow_log_get_no_name_there() {
        let files = [file("d", "a.lua", &long("return 1")), file("d", "b.lua", &long("return 2"))];
        let (catalogue, remarks) = Catalogue::new(&files);
        assert!(name(&catalogue, "EVAL", &files[0].scripts[0].1).starts_with('~'));
        assert_eq!(
            name(&catalogue, "EVALSHA", Sha1Digits::of(&files[1].scripts[0].1).as_str().as_bytes()),
            "b.lua"
        );
        assert!(
            remarks[0].is_warning && remarks[0].text.contains("a.lua") && remarks[0].text.contains("b.lua")
        );
    }

    #[test]
    fn a_script_may_name_itself_only_with_a_valid_name() {
        let naming = |name: &str| format!("-- redis-script-exporter: name={name}\nreturn '{name}'");
        for (given, expected) in [
            ("pay", "pay"),
            ("other", "f.lua"),
            ("~0123456789ab", "f.lua"),
            ("", "f.lua"),
            (&"x".repeat(129), "f.lua"),
            ("a\u{1b}[31m", "a\\u{1b}[31m"),
        ] {
            let content = naming(given);
            let (catalogue, _) = Catalogue::new(&[file("d", "f.lua", &content)]);
            assert_eq!(name(&catalogue, "EVAL", content.as_bytes()), expected, "{given:?}");
        }
    }

    #[test]
    fn templates_match_completed_scripts_and_are_remarked_on() {
        let source = "A = f\"return redis.call('GET', '{x}')\"\nB = \"return redis.call('TIME')\"\nC = \"return redis.call('GET', 'c')\"";
        let (catalogue, remarks) = Catalogue::new(&[file("d", "a.py", source)]);
        assert_eq!(name(&catalogue, "EVAL", b"return redis.call('TIME')"), "a.py:B");
        let named = |body: &[u8]| catalogue.named(&called("EVAL", body));
        assert_eq!(named(b"return redis.call('GET', 'key')").name.as_str(), "a.py:A (template)");
        assert_eq!(named(b"return redis.call('GET', 'key')").origin, Origin::Template);
        assert_eq!(named(b"return redis.call('GET', 'c')").name.as_str(), "a.py:C", "files take precedence");
        assert_eq!(named(b"return redis.call('GET', KEYS[1])").origin, Origin::Computed);
        let [Remark { is_warning: false, text }] = &remarks[..] else { panic!("{remarks:?}") };
        assert!(text.starts_with("\"a.py:A\" is a template"), "{text}");
    }

    #[test]
    fn long_paths_keep_their_end() {
        let path = format!("{}/end.lua", "x".repeat(300));
        let (catalogue, _) = Catalogue::new(&[file("d", &path, "return 1")]);
        let label = name(&catalogue, "EVAL", b"return 1");
        assert!(label.chars().count() == 128 && label.starts_with('…') && label.ends_with("/end.lua"));
    }

    #[test]
    fn files_have_precedence_over_the_bundled_names() {
        let body = b"return 'unlocked'";
        let script = called("EVAL", body);
        let bundled = Bundled::of_test(body, &["a", "b", "c"]);
        let (files, _) = Catalogue::new(&[file("d", "unlock.lua", "return 'unlocked'")]);
        let (other, _) = Catalogue::new(&[file("d", "other.lua", "return 2")]);
        for (files, name, origin) in
            [(files, "unlock.lua", Origin::Catalogue), (other.clone(), "a@1.0/unlock (+2)", Origin::Bundled)]
        {
            let catalogue = Catalogue { bundled: Some(bundled), ..files };
            let named = catalogue.named(&script);
            assert_eq!(
                (named.name.as_str(), named.origin, named.label),
                (name, origin, script.label.clone())
            );
            assert_eq!(named.sha1, Some(Sha1Digits::of(body)));
            assert_eq!(catalogue.named(&called("FCALL", b"unlock")).origin, Origin::Server);
        }
        assert_eq!(other.named(&script).origin, Origin::Computed);
    }

    #[test]
    fn the_name_of_a_file_shows_its_library() {
        let [alone, inside] = ["lib/unlock.lua", "node_modules/redlocks/unlock.lua"].map(|path| {
            let (files, _) =
                Catalogue::new(&[file("d", path, "return 'unlocked'\n"), file("d", "own.lua", "return 2")]);
            files.with_libraries(Some(Bundled::of_test(b"return 'unlocked'", &["redlocks"])))
        });
        assert_eq!(name(&alone, "EVAL", b"return 'unlocked'\n"), "redlocks/lib/unlock.lua");
        assert_eq!(name(&alone, "EVAL", b"return 'unlocked'"), "redlocks/lib/unlock.lua");
        assert_eq!(name(&inside, "EVAL", b"return 'unlocked'"), "node_modules/redlocks/unlock.lua");
        assert_eq!(name(&alone, "EVAL", b"return 2"), "own.lua");
    }

    #[test]
    fn a_truncated_body_matching_two_files_gets_no_bundled_name() {
        let files = [file("d", "a.lua", &long("return 1")), file("d", "b.lua", &long("return 2"))];
        let (catalogue, _) = Catalogue::new(&files);
        let named = catalogue.with_bundled().named(&called("EVAL", &files[0].scripts[0].1));
        assert_eq!((named.sha1, named.origin), (None, Origin::Approximate));
    }

    #[test]
    fn scripts_in_javascript_have_the_files_name() {
        let one = "const content = `return redis.call('A')\n`; exports.a = { name: 'a', content, keys: 1 };";
        let two = "export const b = `redis.call('B')`, c = \"redis.call('C')\";";
        let (catalogue, _) = Catalogue::new(&[file("d", "a-1.js", one), file("d", "two.mjs", two)]);
        assert_eq!(name(&catalogue, "EVAL", b"return redis.call('A')\n"), "a-1.js");
        assert_eq!(name(&catalogue, "EVAL", b"redis.call('B')"), "two.mjs:b");
        assert_eq!(name(&catalogue, "EVAL", b"redis.call('C')"), "two.mjs:c");
    }
}
