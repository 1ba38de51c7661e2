//! Checks whether a user may kill scripts, without killing one.

use ::redis::Value;

use super::connection::{CommandError, Connection};
use crate::parse::{ErrorReply, GuardCommand};

/// Reply to a command that is queued after MULTI.
const QUEUED: &str = "QUEUED";

/// Result of [`kill_grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillGrant {
    /// The user may run every kill command that the server supports.
    Granted,
    /// The user may not run this command.
    Refused(GuardCommand),
    /// The permissions could not be determined, for this reason.
    Unverified(String),
}

/// Checks whether the user of a connection may run SCRIPT KILL, FUNCTION KILL, and PING, which confirms a run before a kill.
///
/// A server checks the permission for a command when it queues the command after MULTI. DISCARD then drops the queue, so nothing is
/// executed. A PING comes first, to verify that the server queues commands.
///
/// # Errors
/// The connection is no longer usable.
pub(crate) async fn kill_grant(connection: &mut Connection) -> Result<KillGrant, CommandError> {
    match reply(connection, GuardCommand::Multi).await? {
        Ok(Value::Okay) => {}
        Ok(_) => return Ok(KillGrant::Unverified("MULTI had an unexpected reply".to_owned())),
        Err(error) => return Ok(KillGrant::Unverified(format!("MULTI returned {error}"))),
    }
    let grant = queue_kills(connection).await?;
    // Closing the connection drops the queue as well.
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
                return Ok(KillGrant::Unverified(format!("{} returned {error}", command.name())));
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
