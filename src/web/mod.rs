//! HTTP: the server with its limits, authentication, the endpoints, and the status page with its API.

mod auth;
mod endpoints;
mod server;
mod status;

pub(crate) use self::auth::WebAuth;
pub(crate) use self::endpoints::endpoints;
pub(crate) use self::server::connections::MAX_CONNECTIONS;
pub(crate) use self::server::serve;
