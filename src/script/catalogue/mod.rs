//! Names for scripts, from the files that they are written in.
//!
//! Programs seldom send a file's bytes as they are: they trim them, drop the last line end, or have other line ends. Each
//! way is a script of its own to the server, with a SHA1 of its own; all of them have the file's name here.

mod javascript;
mod lua;
mod sources;

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use self::lua::Library;
use self::lua::given_name;
pub(crate) use self::sources::Sources;
use crate::script::identity::{Identity, Label, Origin};
use crate::script::labels::OTHER;
use crate::script::sha1::Sha1Digits;

/// Most characters of a name.
const MAX_NAME: usize = 128;

/// Endings of files that are Lua.
const LUA_ENDINGS: [&str; 1] = ["lua"];

/// Endings of files that carry Lua in string literals.
const JAVASCRIPT_ENDINGS: [&str; 6] = ["js", "cjs", "mjs", "ts", "cts", "mts"];

/// What some editors write at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that may hold scripts.
#[derive(Debug, Clone)]
pub(crate) struct ScriptFile {
    /// The last part of the path of the folder that was named, for files of two folders that have the same path.
    pub(crate) folder: String,
    /// The path below that folder, with `/` between its parts.
    pub(crate) path: String,
    /// The content.
    pub(crate) content: Vec<u8>,
}

impl ScriptFile {
    /// Whether a file of this name may hold scripts.
    #[must_use]
    pub(crate) fn is_one(name: &str) -> bool {
        ending(name)
            .is_some_and(|ending| LUA_ENDINGS.contains(&ending) || JAVASCRIPT_ENDINGS.contains(&ending))
    }

    /// The scripts in it: what tells them apart within the file (empty if there is one), and their bodies.
    fn scripts(&self) -> Vec<(String, Vec<u8>)> {
        if !ending(&self.path).is_some_and(|ending| JAVASCRIPT_ENDINGS.contains(&ending)) {
            return vec![(String::new(), self.content.clone())];
        }
        let found = javascript::literals(&String::from_utf8_lossy(&self.content));
        let only = found.len() == 1;
        let name = |name| if only { String::new() } else { name };
        found.into_iter().map(|literal| (name(literal.name), literal.body.into_bytes())).collect()
    }
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending)
}

/// Something about the files that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Whether scripts may be without a name because of it.
    pub(crate) is_warning: bool,
    /// What it is, and what to do about it.
    pub(crate) text: String,
}

/// A script that has a name.
#[derive(Debug, Clone)]
struct Known {
    label: Label,
    /// Its bytes as they are in the file.
    body: Arc<[u8]>,
}

/// What a body that the slow log has cut may be.
#[derive(Debug, Clone)]
enum Cut {
    /// A script, with this SHA1.
    One(usize, Sha1Digits),
    /// Scripts of several files begin alike and are as long.
    Several,
}

/// The names of scripts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    /// The scripts; what is below points into this.
    known: Vec<Known>,
    /// By the SHA1 of each form in which a script may be sent.
    sha1s: HashMap<Sha1Digits, usize>,
    /// By the label of each form that the slow log cuts.
    cuts: HashMap<Label, Cut>,
    /// Functions by name.
    functions: HashMap<String, (Label, usize)>,
}

impl Catalogue {
    /// The names of the scripts in these files. Where two could have one name, the first file keeps it.
    #[must_use]
    pub(crate) fn new(files: &[ScriptFile]) -> (Self, Vec<Remark>) {
        let mut catalogue = Self::default();
        let (mut remarks, mut taken) = (Vec::new(), HashSet::new());
        for file in files {
            for (part, body) in file.scripts() {
                catalogue.add(file, &part, &body, &mut taken, &mut remarks);
            }
        }
        (catalogue, remarks)
    }

    fn add(
        &mut self,
        file: &ScriptFile,
        part: &str,
        body: &[u8],
        taken: &mut HashSet<Label>,
        remarks: &mut Vec<Remark>,
    ) {
        let place = if part.is_empty() { file.path.clone() } else { format!("{}:{part}", file.path) };
        let mut remark = |is_warning, text| remarks.push(Remark { is_warning, text });
        if let Some(first) = self.sha1s.get(&Sha1Digits::of(body)).and_then(|index| self.known.get(*index)) {
            remark(
                false,
                format!("{place:?} holds the same script as {:?}, and shares its name", first.label.as_str()),
            );
            return;
        }
        let label = free_name(file, &place, body, taken, &mut remark);
        let index = self.known.len();
        for form in forms(body) {
            let sha1 = Sha1Digits::of(&form);
            if let Some(cut) = Identity::cut_label(&form) {
                match self.cuts.entry(cut) {
                    Place::Vacant(free) => {
                        free.insert(Cut::One(index, sha1));
                    }
                    Place::Occupied(mut other) => {
                        if let Cut::One(first, _) = other.get()
                            && *first != index
                        {
                            let first = self.known.get(*first).map(|known| known.label.to_string());
                            remark(
                                true,
                                format!(
                                    "{place:?} and {:?} are as long as each other and begin with the same 128 bytes, which is all \
                                 that the slow log keeps of an EVAL: such calls of either stay without a name; a comment in \
                                 the first line that differs helps, or EVALSHA",
                                    first.unwrap_or_default()
                                ),
                            );
                            other.insert(Cut::Several);
                        }
                    }
                }
            }
            self.sha1s.entry(sha1).or_insert(index);
        }
        let library = Library::read(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body));
        for function in library.map(|library| library.functions).unwrap_or_default() {
            let name = shortened(&format!("{label}:{function}"));
            match self.functions.entry(function) {
                Place::Vacant(free) => {
                    free.insert((name, index));
                }
                Place::Occupied(first) => remark(
                    false,
                    format!(
                        "{place:?} registers the function {:?} as {} does, and that keeps it",
                        first.key(),
                        first.get().0
                    ),
                ),
            }
        }
        self.known.push(Known { label, body: body.into() });
    }

    /// The name of a script: the catalogue's if it has one, else its own label.
    #[must_use]
    pub(crate) fn label(&self, script: &Identity) -> Label {
        self.find(script).map_or_else(|| script.label.clone(), |(label, _, _)| label.clone())
    }

    /// What is known of a script, with what the catalogue knows.
    #[must_use]
    pub(crate) fn identify(&self, script: &Identity) -> Identity {
        let Some((label, _, sha1)) = self.find(script) else { return script.clone() };
        Identity {
            label: label.clone(),
            sha1: script.sha1.or(sha1),
            name: script.name.clone(),
            origin: Origin::Catalogue,
        }
    }

    /// The source of a script, or of the library of a function, as it is in its file.
    #[must_use]
    pub(crate) fn source(&self, script: &Identity) -> Option<&Arc<[u8]>> {
        let (_, index, _) = self.find(script)?;
        self.known.get(index).map(|known| &known.body)
    }

    /// How many scripts and functions it has names for.
    #[must_use]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.known.len(), self.functions.len())
    }

    /// Name, script and, where it is known from the beginning alone, SHA1.
    fn find(&self, script: &Identity) -> Option<(&Label, usize, Option<Sha1Digits>)> {
        if !script.name.is_empty() {
            let (label, index) = self.functions.get(&script.name)?;
            return Some((label, *index, None));
        }
        let (index, sha1) = match script.sha1.and_then(|sha1| self.sha1s.get(&sha1)) {
            Some(index) => (*index, None),
            None => match self.cuts.get(&script.label)? {
                Cut::One(index, sha1) => (*index, Some(*sha1)),
                Cut::Several => return None,
            },
        };
        self.known.get(index).map(|known| (&known.label, index, sha1))
    }
}

/// The first name that is free: what the script calls itself, its place, its place with the folder, and that with a number.
fn free_name(
    file: &ScriptFile,
    place: &str,
    body: &[u8],
    taken: &mut HashSet<Label>,
    remark: &mut impl FnMut(bool, String),
) -> Label {
    let given = given_name(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body));
    let with_folder = format!("{}/{place}", file.folder);
    let usable = |name: &&str| {
        let is_usable =
            !name.is_empty() && *name != OTHER && !name.starts_with('~') && name.chars().count() <= MAX_NAME;
        if !is_usable {
            remark(
                true,
                format!(
                    "the name that {place:?} gives itself can't be used: up to {MAX_NAME} characters, not {OTHER:?}, no ~ at the beginning"
                ),
            );
        }
        is_usable
    };
    let given = given.filter(usable);
    let wanted = given.into_iter().chain([place, with_folder.as_str()]).map(shortened);
    let numbered = (2_u64..).map(|number| shortened(&format!("{with_folder} ({number})")));
    let mut names = wanted.chain(numbered);
    // There are more numbers than files.
    let label = names.find(|name| taken.insert(name.clone())).unwrap_or_else(|| Label::new(place));
    if label.as_str() != given.unwrap_or(place) {
        remark(false, format!("{place:?} is named {:?}", label.as_str()));
    }
    label
}

/// A name that is printable and short enough: of a long one the end is kept, which says most.
fn shortened(name: &str) -> Label {
    let name: Vec<char> = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match name.len().checked_sub(MAX_NAME) {
        None | Some(0) => Label::new(&name.iter().collect::<String>()),
        Some(more) => {
            Label::new(&std::iter::once('…').chain(name.into_iter().skip(more + 1)).collect::<String>())
        }
    }
}

/// The forms in which programs send a body: with and without the byte order mark, with either line end, whole, without
/// the last line end, and trimmed. The body as it is comes first.
fn forms(body: &[u8]) -> Vec<Vec<u8>> {
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let unix = replace(unmarked, b"\r\n", b"\n");
    let windows = replace(&unix, b"\n", b"\r\n");
    let mut forms: Vec<Vec<u8>> = vec![body.to_vec()];
    for text in [unmarked, unix.as_slice(), windows.as_slice()] {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for form in [text, line, text.trim_ascii_end(), text.trim_ascii()] {
            if !form.is_empty() && !forms.iter().any(|known| known == form) {
                forms.push(form.to_vec());
            }
        }
    }
    forms
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        let Some((before, after)) = rest.split_at_checked(at) else { break };
        result.extend_from_slice(before);
        result.extend_from_slice(to);
        rest = after.strip_prefix(from).unwrap_or_default();
    }
    result.extend_from_slice(rest);
    result
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Call;

    fn file(folder: &str, path: &str, content: &str) -> ScriptFile {
        ScriptFile { folder: folder.to_owned(), path: path.to_owned(), content: content.as_bytes().to_vec() }
    }

    fn called(command: &str, script: &[u8]) -> Identity {
        // As the slow log has it.
        let script = match script.split_at_checked(128) {
            Some((head, tail)) if !tail.is_empty() => {
                [head, format!("... ({} more bytes)", tail.len()).as_bytes()].concat()
            }
            _ => script.to_vec(),
        };
        Call::from_arguments(&[command.as_bytes().to_vec(), script, b"0".to_vec()]).unwrap().script
    }

    fn name(catalogue: &Catalogue, command: &str, script: &[u8]) -> String {
        catalogue.label(&called(command, script)).to_string()
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
            let cut = catalogue.identify(&called("EVAL_RO", body.as_bytes()));
            assert_eq!((cut.sha1, cut.origin), (Some(Sha1Digits::of(body.as_bytes())), Origin::Catalogue));
        }
        assert_eq!(name(&catalogue, "EVAL", b"return 2"), called("EVAL", b"return 2").label.as_str());
    }

    #[test]
    fn a_file_with_a_mark_and_windows_lines_is_known_without_them() {
        let (catalogue, _) = Catalogue::new(&[file("d", "w.lua", "\u{feff}\r\n return 1\r\nreturn 2\r\n")]);
        for sent in ["return 1\nreturn 2", "\n return 1\nreturn 2", "\r\n return 1\r\nreturn 2\r\n"] {
            assert_eq!(name(&catalogue, "EVAL", sent.as_bytes()), "w.lua", "{sent:?}");
        }
    }

    #[test]
    fn functions_have_their_files_name_and_their_own() {
        let library = "#!lua name=mylib\nredis.register_function('one', f) redis.register_function('two', f)";
        let (catalogue, _) = Catalogue::new(&[file("d", "lib/my.lua", library)]);
        assert_eq!(name(&catalogue, "FCALL", b"one"), "lib/my.lua:one");
        assert_eq!(name(&catalogue, "FCALL_RO", b"two"), "lib/my.lua:two");
        assert_eq!(name(&catalogue, "FCALL", b"three"), "three");
        let one = catalogue.identify(&called("FCALL", b"one"));
        assert_eq!((one.name.as_str(), one.sha1, one.origin), ("one", None, Origin::Catalogue));
        assert_eq!(catalogue.source(&one).unwrap()[..], *library.as_bytes());
    }

    #[test]
    fn equal_scripts_share_a_name_and_equal_names_are_told_apart() {
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
    fn scripts_that_the_slow_log_cannot_tell_apart_have_no_name_there() {
        let files = [file("d", "a.lua", &long("return 1")), file("d", "b.lua", &long("return 2"))];
        let (catalogue, remarks) = Catalogue::new(&files);
        assert!(name(&catalogue, "EVAL", &files[0].content).starts_with('~'));
        assert_eq!(
            name(&catalogue, "EVALSHA", Sha1Digits::of(&files[1].content).as_str().as_bytes()),
            "b.lua"
        );
        assert!(
            remarks[0].is_warning && remarks[0].text.contains("a.lua") && remarks[0].text.contains("b.lua")
        );
    }

    #[test]
    fn a_script_may_name_itself_but_not_as_it_likes() {
        let naming = |name: &str| format!("-- redis-script-exporter: name={name}\nreturn '{name}'");
        for (given, expected) in [
            ("pay", "pay"),
            ("other", "f.lua"),
            ("~0123456789ab", "f.lua"),
            ("", "f.lua"),
            (&"x".repeat(129), "f.lua"),
            ("a\u{1b}[31m", "a\u{fffd}[31m"),
        ] {
            let content = naming(given);
            let (catalogue, _) = Catalogue::new(&[file("d", "f.lua", &content)]);
            assert_eq!(name(&catalogue, "EVAL", content.as_bytes()), expected, "{given:?}");
        }
    }

    #[test]
    fn long_paths_keep_their_end() {
        let path = format!("{}/end.lua", "x".repeat(300));
        let (catalogue, _) = Catalogue::new(&[file("d", &path, "return 1")]);
        let label = name(&catalogue, "EVAL", b"return 1");
        assert!(label.chars().count() == MAX_NAME && label.starts_with('…') && label.ends_with("/end.lua"));
    }

    #[test]
    fn scripts_in_javascript_have_the_files_name() {
        let one = "const content = `return redis.call('A')\n`; exports.a = { name: 'a', content, keys: 1 };";
        let two = "export const b = `redis.call('B')`, c = \"redis.call('C')\";";
        let (catalogue, _) = Catalogue::new(&[file("d", "a-1.js", one), file("d", "two.mjs", two)]);
        assert_eq!(name(&catalogue, "EVAL", b"return redis.call('A')\n"), "a-1.js");
        assert_eq!(name(&catalogue, "EVAL", b"redis.call('B')"), "two.mjs:b");
        assert_eq!(name(&catalogue, "EVAL", b"redis.call('C')"), "two.mjs:c");
        assert!(ScriptFile::is_one("x.lua") && ScriptFile::is_one("x.d.ts") && !ScriptFile::is_one("lua"));
    }
}
