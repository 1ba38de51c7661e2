//! Test of whether a user may kill scripts, without a kill.

use ::redis::Value;

use super::connection::{CommandError, Connection};
use crate::parse::{ErrorReply, GuardCommand};

/// Reply to a command within MULTI.
const QUEUED: &str = "QUEUED";

/// Result of [`kill_grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillGrant {
    /// The user may send the kills that the server has.
    Granted,
    /// The user may not run this command.
    Refused(GuardCommand),
    /// The server does not report it, for this reason.
    Unverified(String),
}

/// Tests whether the user of a connection may run SCRIPT KILL and FUNCTION KILL, and PING, which confirms a run before.
///
/// A server checks the permissions of a command when MULTI queues it, and DISCARD drops the queue: nothing is executed. A
/// PING shows first that the server queues commands.
///
/// # Errors
/// The connection is no longer usable.
pub(crate) async fn kill_grant(connection: &mut Connection) -> Result<KillGrant, CommandError> {
    match reply(connection, GuardCommand::Multi).await? {
        Ok(Value::Okay) => {}
        Ok(_) => return Ok(KillGrant::Unverified("MULTI had an unexpected reply".to_owned())),
        Err(error) => return Ok(KillGrant::Unverified(format!("MULTI was answered with {error}"))),
    }
    let grant = queue_kills(connection).await?;
    // The queue is dropped with the connection, too.
    let _ = reply(connection, GuardCommand::Discard).await?;
    Ok(grant)
}

async fn queue_kills(connection: &mut Connection) -> Result<KillGrant, CommandError> {
    for command in [GuardCommand::Ping, GuardCommand::ScriptKill, GuardCommand::FunctionKill] {
        match reply(connection, command).await? {
            Ok(Value::SimpleString(text)) if text == QUEUED => {}
            Err(ErrorReply::NoPermission) => return Ok(KillGrant::Refused(command)),
            // Servers before 7.0 have no functions.
            Err(ErrorReply::Unknown) if command == GuardCommand::FunctionKill => {}
            Err(error) => {
                return Ok(KillGrant::Unverified(format!("{} was answered with {error}", command.name())));
            }
            Ok(_) => {
                return Ok(KillGrant::Unverified(format!("{} was not queued by MULTI", command.name())));
            }
        }
    }
    Ok(KillGrant::Granted)
}

/// Sends a command; the inner result is its reply.
async fn reply(
    connection: &mut Connection,
    command: GuardCommand,
) -> Result<Result<Value, ErrorReply>, CommandError> {
    match connection.send_guard(command).await {
        Ok(value) => Ok(Ok(value)),
        Err(CommandError::ErrorReply(error)) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
