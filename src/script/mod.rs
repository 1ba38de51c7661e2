//! Which script is this? From a slow log entry's arguments to a script's identity and its label.

mod catalogue;
mod command;
mod identity;
mod javascript;
mod labels;
mod lua;
mod sources;

pub use self::catalogue::{Catalogue, Remark, ScriptFile};
pub use self::command::Command;
pub use self::identity::{Call, Identity, Label, Origin, Sha1Digits, sha1_of};
pub use self::labels::{Labels, OTHER};
pub use self::lua::Library;
pub use self::sources::Sources;
