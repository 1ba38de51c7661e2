//! Which script is this? From a slow log entry's arguments to a script's identity and its label.

mod catalogue;
mod command;
mod identity;
mod labels;

pub use self::catalogue::{Catalogue, Library, Remark, ScriptFile, Sources};
pub use self::command::Command;
pub use self::identity::{Call, Identity, Label, Origin, Sha1Digits, sha1_of};
pub use self::labels::{Labels, OTHER};
