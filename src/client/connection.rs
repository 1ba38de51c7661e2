//! A connection that sends one command at a time.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use ::redis::{Cmd, RedisError, RedisResult, Value, ValueCodec, cmd};
use bytes::BytesMut;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio_util::codec::Decoder as _;

use super::dial::{Stream, Transport};
use super::reply_limit::{LimitedStream, ReplyLimit};
use crate::parse::{Command, CommandNames, ErrorReply, GuardCommand, Request, SMALL_REPLY, TopologyCommand};

/// True for the error that a server at `maxclients` sends to a new client before it closes the connection:
/// `max number of clients reached`, or `max number of clients + cluster connections reached` in a cluster.
pub(super) fn is_too_many_clients(text: &str) -> bool {
    text.contains("max number of clients")
}

/// Reason for the loss of a connection that was closed without an error.
const CLOSED: &str = "closed by the peer before it replied";

/// Reply to PING.
const PONG: &[u8] = b"+PONG\r\n";

/// Text of [`PONG`].
const PONG_TEXT: &str = "PONG";

/// Name of the authentication command.
const AUTH: &str = "AUTH";

/// Error returned by a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// The server sent an error reply; the connection remains usable.
    #[error("the server returned an error: {0}")]
    ErrorReply(ErrorReply),
    /// The reply exceeds the limit of its command; the connection is no longer usable.
    #[error("the reply to {command} is larger than {}", size(*limit))]
    ReplyTooLarge {
        /// The command.
        command: &'static str,
        /// Maximum memory of the reply, bytes.
        limit: usize,
    },
    /// The incomplete reply was dropped because the replies of all servers together exceeded the budget; the connection is no
    /// longer usable.
    #[error(
        "the reply to {command} was dropped: incomplete replies of all servers exceed --redis.reply-memory"
    )]
    OverBudget {
        /// The command.
        command: &'static str,
    },
    /// The received bytes are not valid Redis protocol; the connection is no longer usable.
    #[error("{}", if *is_http { "the peer is an HTTP server" } else { "the reply is not valid Redis protocol" })]
    NotRedis {
        /// True if the bytes come from an HTTP server.
        is_http: bool,
    },
    /// The peer's kernel did not acknowledge sent data in time: the network or the machine is down.
    #[error("sent data was not acknowledged")]
    Unacknowledged,
    /// The connection was closed after this error reply, which states the reason.
    #[error("the server or a proxy refused the connection: {0}")]
    Refused(String),
    /// The connection was closed or reset.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
}

/// Formats a limit.
fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

/// The command in flight, for error messages.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    command: &'static str,
    /// Maximum memory of its reply, bytes.
    limit: usize,
}

/// Maximum number of unsolicited replies that are dropped before a command is sent.
const MAX_UNREQUESTED: usize = 64;

/// Maximum size of one read, bytes.
const CHUNK: usize = 16 << 10;

/// A connection to a server. It has no task of its own, and no buffer unless a reply is pending.
pub(crate) struct Connection {
    stream: LimitedStream<Box<dyn Stream>>,
    /// Bytes that were read but not decoded; allocates no memory while empty.
    buffer: BytesMut,
    /// Decoder of the current reply. The client library's other decoder is a generic function, which would be compiled as part of
    /// this crate and therefore optimized for size.
    codec: ValueCodec,
    /// True if the decoder holds part of a reply.
    is_decoding: bool,
    limit: ReplyLimit,
    names: CommandNames,
    /// True if a request was dropped while it was being written.
    is_writing: bool,
    /// Number of outstanding replies, including those to earlier requests whose futures were dropped.
    owed: usize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl Connection {
    /// Wraps a transport to a server with these command names. Sends nothing, because a BUSY server would reject the commands that
    /// client libraries send on connect.
    pub(crate) fn open(transport: Transport, names: CommandNames) -> Self {
        // Applies to bytes that arrive before the first command.
        let limit = ReplyLimit::new(SMALL_REPLY);
        Self {
            stream: LimitedStream::new(transport.into_dyn_stream(), limit.clone()),
            buffer: BytesMut::new(),
            codec: ValueCodec::default(),
            is_decoding: false,
            limit,
            names,
            is_writing: false,
            owed: 0,
        }
    }

    /// Sends a command and waits for its reply without a time limit, even while the server is blocked.
    ///
    /// # Errors
    /// An error reply, or a connection that is no longer usable.
    pub(crate) fn send(
        &mut self,
        command: Command,
    ) -> impl Future<Output = Result<Value, CommandError>> + use<'_> {
        let in_flight = InFlight { command: command.name(), limit: command.reply_limit() };
        self.send_request(command.request(&self.names), in_flight)
    }

    /// Sends a discovery command and waits for its reply.
    ///
    /// # Errors
    /// An error reply, or a connection that is no longer usable.
    pub(crate) fn send_topology(
        &mut self,
        command: TopologyCommand<'_>,
    ) -> impl Future<Output = Result<Value, CommandError>> {
        let in_flight = InFlight { command: command.name(), limit: command.reply_limit() };
        self.send_request(command.request(), in_flight)
    }

    /// Sends a guard command and waits for its reply.
    ///
    /// # Errors
    /// An error reply, or a connection that is no longer usable.
    pub(crate) fn send_guard(
        &mut self,
        command: GuardCommand,
    ) -> impl Future<Output = Result<Value, CommandError>> + use<'_> {
        let in_flight = InFlight { command: command.name(), limit: command.reply_limit() };
        self.send_request(command.request(), in_flight)
    }

    /// True if the connection is no longer usable, for example because the server has closed it.
    #[must_use]
    pub(crate) fn is_closed(&mut self) -> bool {
        self.is_writing || self.drop_unrequested(&mut Context::from_waker(Waker::noop())).is_err()
    }

    /// Sends a command for `rehearse`, which works only on its own data, and waits for the reply.
    ///
    /// # Errors
    /// An error reply, or a connection that is no longer usable.
    pub(crate) fn send_any(
        &mut self,
        command: Cmd,
        name: &'static str,
        limit: usize,
    ) -> impl Future<Output = Result<Value, CommandError>> + use<'_> {
        self.send_request(Request::One(command), InFlight { command: name, limit })
    }

    /// Sends AUTH.
    ///
    /// # Errors
    /// An error reply, or a connection that is no longer usable. Only the first word of an error reply is kept, because servers
    /// without AUTH echo its arguments.
    pub(crate) fn authenticate(
        &mut self,
        user: Option<&str>,
        password: &SecretString,
    ) -> impl Future<Output = Result<(), CommandError>> + use<'_> {
        let mut auth: Cmd = cmd(AUTH);
        if let Some(user) = user {
            auth.arg(user);
        }
        auth.arg(password.expose_secret());
        let reply = self.send_request(Request::One(auth), InFlight { command: AUTH, limit: SMALL_REPLY });
        async move {
            match reply.await {
                Ok(_) => Ok(()),
                Err(CommandError::ErrorReply(
                    ErrorReply::Unauthorized { text } | ErrorReply::Other { text },
                )) => {
                    let code = text.split(' ').next().unwrap_or_default().to_owned();
                    Err(CommandError::ErrorReply(ErrorReply::Unauthorized { text: code }))
                }
                Err(error) => Err(error),
            }
        }
    }

    async fn send_request(&mut self, request: Request, in_flight: InFlight) -> Result<Value, CommandError> {
        self.limit.reset(in_flight.limit);
        let (packed, count) = match &request {
            Request::Packed(bytes) => (Cow::Borrowed(*bytes), 1),
            Request::One(command) => (command.get_packed_command().into(), 1),
            Request::Pipeline(pipeline) => (pipeline.get_packed_pipeline().into(), pipeline.len()),
        };
        drop(request);
        let reply = self.reply_to(&packed, count).await;
        self.limit.complete();
        match reply.map_err(|error| classify(&error, &self.limit, in_flight))? {
            Value::ServerError(error) => {
                let reply = ErrorReply::parse(error.code(), error.details().unwrap_or_default());
                Err(match reply {
                    // Not a reply to the command: the server sends this error to every new client.
                    ErrorReply::Other { text } if is_too_many_clients(&text) => CommandError::Refused(text),
                    reply => CommandError::ErrorReply(reply),
                })
            }
            reply => Ok(reply),
        }
    }

    /// Sends packed commands and returns the first error reply, or the last reply.
    async fn reply_to(&mut self, packed: &[u8], count: usize) -> RedisResult<Value> {
        if std::mem::replace(&mut self.is_writing, true) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        poll_fn(|cx| Poll::Ready(self.drop_unrequested(cx))).await?;
        self.stream.write_all(packed).await?;
        self.stream.flush().await?;
        self.is_writing = false;
        let earlier = self.owed;
        self.owed = earlier.saturating_add(count);
        let mut result = Value::Nil;
        for index in 0..self.owed {
            let reply = self.reply().await?;
            if index >= earlier && !matches!(result, Value::ServerError(_)) {
                result = reply;
            }
        }
        Ok(result)
    }

    /// Receives a reply.
    async fn reply(&mut self) -> RedisResult<Value> {
        let reply = loop {
            if !self.buffer.is_empty() {
                self.is_decoding = true;
                if let Some(reply) = self.codec.decode(&mut self.buffer)? {
                    self.is_decoding = false;
                    break reply;
                }
            }
            if poll_fn(|cx| self.poll_read(cx)).await? {
                break Value::SimpleString(PONG_TEXT.to_owned());
            }
        };
        self.owed = self.owed.saturating_sub(1);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(reply)
    }

    /// Reads the available bytes into the buffer. Returns true if they are exactly one reply to PING, which is not buffered; four
    /// out of five replies are of this form.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [const { MaybeUninit::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let is_pong = !self.is_decoding && self.buffer.is_empty() && chunk.filled() == PONG;
        if !is_pong {
            self.buffer.extend_from_slice(chunk.filled());
        }
        Poll::Ready(Ok(is_pong))
    }

    /// Drops received replies that no request is waiting for.
    ///
    /// # Errors
    /// The server has closed the connection, or sends too many such replies.
    fn drop_unrequested(&mut self, cx: &mut Context<'_>) -> RedisResult<()> {
        for _ in 0..MAX_UNREQUESTED {
            // The decoder keeps the received part of an incomplete reply.
            match pin!(self.reply()).poll(cx) {
                Poll::Ready(reply) => drop(reply?),
                Poll::Pending => return Ok(()),
            }
        }
        Err(io::Error::from(io::ErrorKind::InvalidData).into())
    }
}

/// Returns the reason why the connection is no longer usable.
fn classify(error: &RedisError, limit: &ReplyLimit, in_flight: InFlight) -> CommandError {
    if limit.is_exceeded() && !limit.is_foreign() {
        CommandError::ReplyTooLarge { command: in_flight.command, limit: in_flight.limit }
    } else if limit.is_dropped() {
        CommandError::OverBudget { command: in_flight.command }
    } else if limit.is_foreign() || limit.is_exceeded() || matches!(error.kind(), ::redis::ErrorKind::Parse) {
        CommandError::NotRedis { is_http: limit.is_http() }
    } else if error.is_timeout() || limit.is_unacknowledged() {
        CommandError::Unacknowledged
    } else if let Some(refusal) = refusal(limit, in_flight) {
        refusal
    } else {
        let closed = || if error.is_connection_dropped() { CLOSED.to_owned() } else { error.to_string() };
        CommandError::ConnectionLost(limit.read_error().map_or_else(closed, str::to_owned))
    }
}

/// Returns the error reply that explains why the connection was closed, if there is one.
fn refusal(limit: &ReplyLimit, in_flight: InFlight) -> Option<CommandError> {
    let line = limit.error_line()?;
    let (code, detail) = line.split_once(' ').unwrap_or((&line, ""));
    match ErrorReply::parse(code, detail) {
        reply @ ErrorReply::Unauthorized { .. } => Some(CommandError::ErrorReply(reply)),
        // Servers without AUTH echo its arguments.
        ErrorReply::Other { text } if in_flight.command != AUTH || is_too_many_clients(&text) => {
            Some(CommandError::Refused(text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

    use super::*;
    use crate::client::ResolvedEndpoint;

    /// A stream whose reads fail with this error.
    struct Failing(&'static str);

    impl AsyncRead for Failing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(self.0)))
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The guard drops requests that time out.
    #[tokio::test]
    async fn the_reply_to_a_dropped_request_is_not_given_to_the_next_one() {
        let (ours, mut server) = tokio::io::duplex(1 << 10);
        let transport = Transport::new(ours, ResolvedEndpoint::Unix("unused".into()));
        let mut connection = Connection::open(transport, CommandNames::default());
        let is_pending = |connection: &mut Connection| {
            pin!(connection.send(Command::Ping)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        // When the request is dropped, none, part or all of its reply has arrived.
        for (before, after) in [("", "+LATE\r\n"), ("+LA", "TE\r\n"), ("+LATE\r\n", "")] {
            assert!(is_pending(&mut connection));
            server.write_all(before.as_bytes()).await.unwrap();
            let answer = async { server.write_all(format!("{after}+PONG\r\n").as_bytes()).await.unwrap() };
            let (reply, ()) = tokio::join!(connection.send(Command::Ping), answer);
            assert_eq!(reply, Ok(Value::SimpleString("PONG".to_owned())), "{before:?} {after:?}");
            assert_eq!(connection.owed, 0);
        }
    }

    /// `+PONG` may also be an element of the reply to a transaction, which may arrive in parts.
    #[tokio::test]
    async fn the_rest_of_an_incomplete_reply_is_not_taken_for_a_reply() {
        let (ours, mut server) = tokio::io::duplex(1 << 10);
        let transport = Transport::new(ours, ResolvedEndpoint::Unix("unused".into()));
        let mut connection = Connection::open(transport, CommandNames::default());
        let is_pending = |connection: &mut Connection, command| {
            pin!(connection.send(command)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        for (before, after) in
            [("*1\r\n", "+PONG\r\n"), ("*2\r\n+PONG\r\n", "+PONG\r\n"), ("*1\r\n$2\r\n", "OK\r\n")]
        {
            assert!(is_pending(&mut connection, Command::SlowlogLen));
            server.write_all(before.as_bytes()).await.unwrap();
            assert!(is_pending(&mut connection, Command::Ping));
            server.write_all(after.as_bytes()).await.unwrap();
            // The replies to the first PING and to this one.
            let answer = async { server.write_all(b"+FIRST\r\n+PONG\r\n").await.unwrap() };
            let (reply, ()) = tokio::join!(connection.send(Command::Ping), answer);
            assert_eq!(reply, Ok(Value::SimpleString("PONG".to_owned())), "{before:?}");
            assert_eq!((connection.owed, connection.buffer.capacity()), (0, 0), "{before:?}");
        }
    }

    #[tokio::test]
    async fn a_read_error_is_reported_instead_of_a_broken_pipe() {
        let gone = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let in_flight = InFlight { command: "PING", limit: 1 << 10 };
        let limit = ReplyLimit::new(in_flight.limit);
        let reason = |limit: &ReplyLimit| match classify(&gone, limit, in_flight) {
            CommandError::ConnectionLost(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&limit), CLOSED);
        let mut stream =
            LimitedStream::new(Failing("received fatal alert: CertificateRequired"), limit.clone());
        stream.write_all(b"x").await.unwrap();
        assert!(stream.read_u8().await.is_err());
        assert_eq!(reason(&limit), "received fatal alert: CertificateRequired");
    }
}
