//! The HTTP side: the server that limits what clients can make it hold, who is let in, and the endpoints.

mod auth;
mod endpoints;
mod server;
mod status;

pub(crate) use self::auth::WebAuth;
pub(crate) use self::endpoints::router;
pub(crate) use self::server::serve;
