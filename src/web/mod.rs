//! The HTTP side: endpoints and the server that limits what clients can make it hold.

mod routes;
mod server;

pub use self::routes::router;
pub use self::server::serve;
