//! The HTTP side: endpoints and the server that limits what clients can make it hold.

mod body;
mod compress;
mod connections;
mod door;
mod lifecycle;
mod probe;
mod routes;
mod sd;
mod server;
mod status;
mod watched;

pub use self::door::{Door, DoorError, TlsFileError};
pub use self::routes::router;
pub use self::server::serve;
