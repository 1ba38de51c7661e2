//! The HTTP side: the server that limits what clients can make it hold, who is let in, and the endpoints.

mod auth;
mod endpoints;
mod server;
mod status;

pub use self::auth::{Door, DoorError, TlsFileError};
pub use self::endpoints::router;
pub use self::server::serve;
