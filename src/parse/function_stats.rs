//! FUNCTION STATS (7.0+): the running function.

use std::time::Duration;

use ::redis::Value;

use super::reply::{MAX_TEXT, Malformed, bytes, integer, pairs};

/// The running function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningFunction {
    /// Registered name, truncated to 256 bytes.
    pub(crate) name: Vec<u8>,
    /// Time since the start of the call.
    pub(crate) running_for: Option<Duration>,
}

/// Parses a reply; returns `None` if no function is running. The arguments of the call are dropped.
///
/// # Errors
/// The reply has no `running_script`, or one without a name.
pub(crate) fn function_stats(value: Value) -> Result<Option<RunningFunction>, Malformed> {
    let running = pairs(value)?.into_iter().find(|(name, _)| name == "running_script");
    let (_, running) = running.ok_or(Malformed::new("a map with a running_script"))?;
    if matches!(running, Value::Nil | Value::Boolean(false)) {
        return Ok(None);
    }
    let (mut name, mut running_for) = (None, None);
    for (field, value) in pairs(running)? {
        match field.as_str() {
            "name" => {
                let mut text = bytes(value)?;
                text.truncate(MAX_TEXT);
                name = Some(text);
            }
            "duration_ms" => {
                running_for =
                    integer(&value).ok().and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            }
            _ => {}
        }
    }
    name.map(|name| Some(RunningFunction { name, running_for }))
        .ok_or(Malformed::new("a running function with a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &str) -> Result<Option<RunningFunction>, Malformed> {
        function_stats(::redis::parse_redis_value(bytes.as_bytes()).unwrap())
    }

    #[test]
    fn idle_and_running_servers_are_distinguished() {
        let engines = "$7\r\nengines\r\n*2\r\n$3\r\nLUA\r\n*4\r\n$15\r\nlibraries_count\r\n:1\r\n$15\r\nfunctions_count\r\n:1\r\n";
        assert_eq!(parse(&format!("*4\r\n$14\r\nrunning_script\r\n$-1\r\n{engines}")), Ok(None));
        let running = "*6\r\n$4\r\nname\r\n$4\r\nslow\r\n$7\r\ncommand\r\n*3\r\n$5\r\nfcall\r\n$4\r\nslow\r\n$1\r\n0\r\n$11\r\nduration_ms\r\n:1200\r\n";
        let expected =
            RunningFunction { name: b"slow".to_vec(), running_for: Some(Duration::from_millis(1200)) };
        assert_eq!(parse(&format!("*4\r\n$14\r\nrunning_script\r\n{running}{engines}")), Ok(Some(expected)));
        let long =
            format!("*2\r\n$14\r\nrunning_script\r\n*2\r\n$4\r\nname\r\n$9000\r\n{}\r\n", "x".repeat(9000));
        assert_eq!(parse(&long).unwrap().unwrap().name.len(), MAX_TEXT);
        assert!(parse("*0\r\n").is_err());
        assert!(parse("*2\r\n$14\r\nrunning_script\r\n*0\r\n").is_err());
    }
}
