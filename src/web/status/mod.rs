//! The status page and the API behind it. Both answer from memory; no request ever reaches a Redis server.
//!
//! `query` reads what was asked for, `targets`, `scripts` and `calls` make the answers of it, `advice` words what hides
//! the truth and what can be done, `headline` is the worst state of all targets, `summary` says the most important as plain text, `assets` is the page itself, and
//! `answer` turns all of them into responses. The shape of the JSON is in `docs/api/`, and tests hold it to that.

mod advice;
mod answer;
mod assets;
mod calls;
mod headline;
mod query;
mod routes;
mod scripts;
mod summary;
mod targets;
mod text;

pub(crate) use self::routes::router;
