//! Identity of scripts: derives the identity of a script, its label and its name from the arguments in a slow log entry.

mod catalogue;
mod command;
mod identity;
mod labels;
mod sha1;

pub(crate) use self::catalogue::{Bundled, Catalogue, Library, Owner, ScriptFile, Sources};
pub(crate) use self::command::ScriptCommand;
pub(crate) use self::identity::{Call, Identity, Label, NamedScript, Origin};
pub(crate) use self::labels::{Labels, OTHER};
pub(crate) use self::sha1::Sha1Digits;
