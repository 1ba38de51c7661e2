//! Names of scripts: the name declared in the script, or otherwise the path of its file.

use std::collections::HashSet;

use super::file::ScriptFile;
use super::forms::unmarked;
use super::lua::given_name;
use crate::script::identity::Label;
use crate::script::labels::OTHER;
use crate::text::clean;

/// Maximum length of a name, in characters.
const MAX_NAME: usize = 128;

/// Remark about the files, to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// True if scripts may be left without a name.
    pub(crate) is_warning: bool,
    /// Description and remedy.
    pub(crate) text: String,
}

/// Returns the path of a script: the path of its file and the script's name within the file.
pub(super) fn path_of(file: &ScriptFile, part: &str) -> String {
    if part.is_empty() { file.path.clone() } else { format!("{}:{part}", file.path) }
}

/// Returns the first unused name among the name declared in the script, its path, its path with the directory, and the latter
/// with a number.
pub(super) fn unused_name(
    file: &ScriptFile,
    path: &str,
    body: &[u8],
    used: &mut HashSet<Label>,
    remark: &mut impl FnMut(bool, String),
) -> Label {
    let given = given_name(unmarked(body));
    let with_folder = format!("{}/{path}", file.folder);
    let is_valid = |name: &&str| {
        let is_valid =
            !name.is_empty() && *name != OTHER && !name.starts_with('~') && name.chars().count() <= MAX_NAME;
        if !is_valid {
            remark(
                true,
                format!(
                    "{path:?} gives itself an invalid name: a name has 1 to {MAX_NAME} characters, does not begin with ~ \
                     and is not {OTHER:?}"
                ),
            );
        }
        is_valid
    };
    let given = given.filter(is_valid);
    let preferred = given.into_iter().chain([path, with_folder.as_str()]).map(shortened);
    let numbered = (2_u64..).map(|number| shortened(&format!("{with_folder} ({number})")));
    let mut names = preferred.chain(numbered);
    // There are more numbers than files.
    let label = names.find(|name| used.insert(name.clone())).unwrap_or_else(|| Label::new(path));
    if label.as_str() != given.unwrap_or(path) {
        remark(false, format!("{path:?} is named {:?}", label.as_str()));
    }
    label
}

/// Makes a name printable and short enough. The end of a long name is kept because it is the most specific part.
pub(super) fn shortened(name: &str) -> Label {
    let name: Vec<char> = clean(name, usize::MAX).chars().collect();
    match name.len().checked_sub(MAX_NAME) {
        None | Some(0) => Label::new(&name.iter().collect::<String>()),
        Some(more) => {
            Label::new(&std::iter::once('…').chain(name.into_iter().skip(more + 1)).collect::<String>())
        }
    }
}
