//! A connection that takes one question at a time.

use std::future::Future;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, RedisError, Value, cmd};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::AbortOnDropHandle;

use super::command::{Command, Request, SMALL_REPLY, TopologyCommand};
use super::dial::Link;
use super::reply_limit::{LimitedReply, ReplyLimit};
use crate::parse::ErrorReply;

/// What a server that has as many clients as it may have says to a new one.
pub(crate) const TOO_MANY_CLIENTS: &str = "max number of clients reached";

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The server answered with an error; the connection goes on.
    #[error("the server refused: {0:?}")]
    ErrorReply(ErrorReply),
    /// The reply is larger than we take; the connection is of no use any more.
    #[error("the reply to {command} is larger than {}", size(*limit))]
    TooLarge {
        /// The command.
        command: &'static str,
        /// Most memory that its reply may take, bytes.
        limit: usize,
    },
    /// What came is no reply; the connection is of no use any more.
    #[error("what came is not the Redis protocol")]
    NotRedis,
    /// Nothing that was sent is acknowledged: the network or the machine is gone.
    #[error("nothing that was sent is acknowledged")]
    Unacknowledged,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Lost(String),
}

/// A limit in words.
fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

/// What is asked now: for messages.
#[derive(Debug, Clone, Copy)]
struct Asked {
    command: &'static str,
    limit: usize,
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: MultiplexedConnection,
    meter: ReplyLimit,
    /// Moves bytes; the connection ends with it.
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Takes over a link. Nothing is sent: a server that is BUSY would refuse what client libraries say first.
    ///
    /// # Errors
    /// The link is closed already.
    pub(crate) async fn open(link: Link) -> Result<Self, Failure> {
        let asked = Asked { command: "nothing", limit: SMALL_REPLY };
        let meter = ReplyLimit::new(asked.limit);
        let stream = LimitedReply::new(link.into_stream(), meter.clone());
        let settings =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        // Time limits are wrong for us: a request that stays unanswered is what we look for.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (requests, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
            .await
            .map_err(|error| lost(&error, &meter, asked))?;
        Ok(Self { requests, meter, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }

    /// Asks a question. The answer may take as long as the server is blocked.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn ask(&mut self, question: Command) -> impl Future<Output = Result<Value, Failure>> + use<> {
        self.send(question.request(), Asked { command: question.name(), limit: question.reply_limit() })
    }

    /// Asks where other servers are.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) fn ask_topology(
        &mut self,
        question: TopologyCommand<'_>,
    ) -> impl Future<Output = Result<Value, Failure>> + use<> {
        self.send(question.request(), Asked { command: question.name(), limit: question.reply_limit() })
    }

    /// Logs in.
    ///
    /// # Errors
    /// Why that failed. The server's words are dropped but for the first: servers that don't know AUTH repeat its
    /// arguments.
    pub(crate) fn authenticate(
        &mut self,
        user: Option<&str>,
        password: &SecretString,
    ) -> impl Future<Output = Result<(), Failure>> + use<> {
        let mut auth: Cmd = cmd("AUTH");
        if let Some(user) = user {
            auth.arg(user);
        }
        auth.arg(password.expose_secret());
        let answer = self.send(Request::One(auth), Asked { command: "AUTH", limit: SMALL_REPLY });
        async move {
            match answer.await {
                Ok(_) => Ok(()),
                // Said to whoever comes, whatever they ask.
                Err(Failure::ErrorReply(ErrorReply::Other { text })) if text.contains(TOO_MANY_CLIENTS) => {
                    Err(Failure::Lost(TOO_MANY_CLIENTS.to_owned()))
                }
                Err(Failure::ErrorReply(ErrorReply::Unauthorized { text } | ErrorReply::Other { text })) => {
                    let code = text.split(' ').next().unwrap_or_default().to_owned();
                    Err(Failure::ErrorReply(ErrorReply::Unauthorized { text: code }))
                }
                Err(failure) => Err(failure),
            }
        }
    }

    fn send(
        &mut self,
        request: Request,
        asked: Asked,
    ) -> impl Future<Output = Result<Value, Failure>> + use<> {
        let mut requests = self.requests.clone();
        let meter = self.meter.clone();
        meter.reset(asked.limit);
        async move {
            let replies = match request {
                Request::One(command) => {
                    requests.send_packed_command(&command).await.map(|reply| vec![reply])
                }
                Request::Several(pipeline) => {
                    let count = pipeline.len();
                    requests.send_packed_commands(&pipeline, 0, count).await
                }
            };
            let mut last = Value::Nil;
            for reply in replies.map_err(|error| lost(&error, &meter, asked))? {
                match reply {
                    Value::ServerError(error) => {
                        let refusal = ErrorReply::parse(error.code(), error.details().unwrap_or_default());
                        return Err(Failure::ErrorReply(refusal));
                    }
                    reply => last = reply,
                }
            }
            Ok(last)
        }
    }
}

/// Why the connection is of no use any more.
fn lost(error: &RedisError, meter: &ReplyLimit, asked: Asked) -> Failure {
    if meter.exceeded() && !meter.is_foreign() {
        Failure::TooLarge { command: asked.command, limit: asked.limit }
    } else if meter.exceeded() || matches!(error.kind(), ::redis::ErrorKind::Parse) {
        Failure::NotRedis
    } else if error.is_timeout() {
        Failure::Unacknowledged
    } else {
        Failure::Lost(meter.broke().map_or_else(|| error.to_string(), str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

    use super::*;

    /// A peer that hangs up with these words.
    struct Refusing(&'static str);

    impl AsyncRead for Refusing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(self.0)))
        }
    }

    #[tokio::test]
    async fn why_reading_failed_says_more_than_that_the_connection_is_gone() {
        let gone = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let asked = Asked { command: "PING", limit: 1 << 10 };
        let meter = ReplyLimit::new(asked.limit);
        let lost_with = |meter: &ReplyLimit| match lost(&gone, meter, asked) {
            Failure::Lost(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(lost_with(&meter).contains("broken pipe"), "{}", lost_with(&meter));
        let mut metered =
            LimitedReply::new(Refusing("received fatal alert: CertificateRequired"), meter.clone());
        assert!(metered.read_u8().await.is_err());
        assert_eq!(lost_with(&meter), "received fatal alert: CertificateRequired");
    }
}
