//! Status page and API. Both respond from memory and send nothing to a Redis server.
//!
//! `query` parses query strings; `targets`, `scripts`, `calls` and `incidents` build the API's responses; `problems` is the diagnosis
//! of a target; `headline` is the worst state of all targets; `summary` is the page as plain text; `assets` are the page's
//! files; `response` adds caching and security headers. The JSON schemas are in `docs/api/`; tests validate responses
//! against them.

mod assets;
mod calls;
mod guard;
mod headline;
mod incidents;
mod problems;
mod query;
mod response;
mod routes;
mod scripts;
mod summary;
mod targets;
mod text;

pub(crate) use self::routes::router;
