//! Files that contain scripts.

use crate::embedded::{self, TooComplex};

/// Extension of Lua files.
const LUA_EXTENSION: &str = "lua";

/// Scripts in a file.
#[derive(Debug, Clone)]
pub(crate) struct ScriptFile {
    /// Last component of the path of the configured directory, which distinguishes files with the same path in two directories.
    pub(super) folder: String,
    /// Path relative to that directory, with `/` between components.
    pub(super) path: String,
    /// Name within the file (empty if there is only one script) and body of each script.
    pub(super) scripts: Vec<(String, Vec<u8>)>,
    /// Name within the file and fixed parts of each template, a script that the program completes at run time.
    pub(super) templates: Vec<(String, Vec<Vec<u8>>)>,
}

impl ScriptFile {
    /// True if a file with this name may contain scripts.
    #[must_use]
    pub(crate) fn is_one(name: &str) -> bool {
        Self::is_lua(name) || embedded::is_known(extension(name))
    }

    /// True if a file with this name is a Lua file.
    #[must_use]
    pub(crate) fn is_lua(name: &str) -> bool {
        extension(name) == LUA_EXTENSION
    }

    /// Maximum size of a file with this name, in bytes.
    #[must_use]
    pub(crate) fn max_size(name: &str) -> u64 {
        if Self::is_lua(name) { embedded::MAX_LUA_SIZE } else { embedded::MAX_SIZE }
    }

    /// Finds the scripts in the content of a file. A file without a known extension is treated as Lua. The search stops when
    /// `is_late` returns true.
    ///
    /// # Errors
    /// The file takes too long to parse.
    pub(crate) fn new(
        folder: &str,
        path: &str,
        content: Vec<u8>,
        is_late: &mut dyn FnMut() -> bool,
    ) -> Result<Self, TooComplex> {
        let (mut scripts, mut templates) = (Vec::new(), Vec::new());
        if embedded::is_known(extension(path)) {
            for script in embedded::scripts(extension(path), &String::from_utf8_lossy(&content), is_late)? {
                if script.is_template() {
                    let parts = script.fixed_parts().map(<[u8]>::to_vec).collect();
                    templates.push((script.name, parts));
                } else {
                    let body = script.bytes().to_vec();
                    scripts.push((script.name, body));
                }
            }
            if let ([(name, _)], []) = (scripts.as_mut_slice(), templates.as_slice()) {
                name.clear();
            }
        } else {
            scripts.push((String::new(), content));
        }
        Ok(Self { folder: folder.to_owned(), path: path.to_owned(), scripts, templates })
    }
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_scripts_have_a_known_extension() {
        assert!(ScriptFile::is_one("x.lua") && ScriptFile::is_one("x.d.ts") && ScriptFile::is_one("x.py"));
        assert!(!ScriptFile::is_one("lua") && !ScriptFile::is_one("x.txt"));
    }

    #[test]
    fn a_script_alone_in_its_file_needs_no_name() {
        let file =
            |content: &str| ScriptFile::new("d", "a.py", content.as_bytes().to_vec(), &mut || false).unwrap();
        let one = "A = \"redis.call('A')\"\n";
        assert_eq!(file(one).scripts, [(String::new(), b"redis.call('A')".to_vec())]);
        let two = file(&format!("{one}B = \"redis.call('B')\""));
        assert_eq!(two.scripts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let mixed = file(&format!("{one}B = f\"redis.call('{{x}}')\""));
        assert_eq!(mixed.scripts[0].0, "A");
        let parts = [b"redis.call('".to_vec(), b"')".to_vec()];
        assert_eq!(mixed.templates, [("B".to_owned(), parts.to_vec())]);
    }

    #[test]
    fn a_search_that_is_late_is_an_error() {
        let content = format!("A = \"redis.call('A')\"\n{}", "f(x)\n".repeat(1000));
        assert!(ScriptFile::new("d", "a.py", content.into_bytes(), &mut || true).is_err());
    }
}
