//! Which script is this? From a slow log entry's arguments to a script's identity and its label.

mod command;
mod identity;
mod labels;

pub use self::command::Command;
pub use self::identity::{Call, Identity, Label, Origin};
pub use self::labels::{Labels, OTHER};
