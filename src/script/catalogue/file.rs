//! Files that hold scripts.

use super::javascript;

/// Extensions of files that are Lua.
const LUA_EXTENSIONS: [&str; 1] = ["lua"];

/// Extensions of files that have Lua in string literals.
const JAVASCRIPT_EXTENSIONS: [&str; 6] = ["js", "cjs", "mjs", "ts", "cts", "mts"];

/// A file that may hold scripts.
#[derive(Debug, Clone)]
pub(crate) struct ScriptFile {
    /// Last part of the path of the configured folder, for files of two folders with the same path.
    pub(crate) folder: String,
    /// Path below that folder, with `/` between its parts.
    pub(crate) path: String,
    /// Content.
    pub(crate) content: Vec<u8>,
}

impl ScriptFile {
    /// True if a file with this name may hold scripts.
    #[must_use]
    pub(crate) fn is_one(name: &str) -> bool {
        extension(name).is_some_and(|extension| {
            LUA_EXTENSIONS.contains(&extension) || JAVASCRIPT_EXTENSIONS.contains(&extension)
        })
    }

    /// Returns the scripts in the file: a name that is unique within the file (empty if there is one script), and the body.
    pub(super) fn scripts(&self) -> Vec<(String, Vec<u8>)> {
        if !extension(&self.path).is_some_and(|extension| JAVASCRIPT_EXTENSIONS.contains(&extension)) {
            return vec![(String::new(), self.content.clone())];
        }
        let found = javascript::literals(&String::from_utf8_lossy(&self.content));
        let only = found.len() == 1;
        let name = |name| if only { String::new() } else { name };
        found.into_iter().map(|literal| (name(literal.name), literal.body.into_bytes())).collect()
    }
}

fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_scripts_have_a_known_extension() {
        assert!(ScriptFile::is_one("x.lua") && ScriptFile::is_one("x.d.ts"));
        assert!(!ScriptFile::is_one("lua") && !ScriptFile::is_one("x.rs"));
    }
}
