//! Lua scripts that run for a given time.
//!
//! The bodies are constant and the time is an argument, so a script has the same SHA1 for all durations. The time is
//! measured by the server's clock, so the speed of the machine does not matter.
//!
//! There are two clocks. `TIME` is exact on Redis 6.2 and 7.0; newer servers (Redis 7.2, Valkey) freeze it while a script
//! runs, until the script exceeds `lua-time-limit`. `os.clock`, which only the newer servers have, counts the server's CPU
//! time. On an idle machine this equals elapsed time; otherwise the script runs longer.

use std::time::Duration;

use redis::Value;

use super::client::{Client, text};

/// Keeps the server busy for `ARGV[1]` milliseconds.
pub const BUSY_LOOP: &str = "\
local os = rawget(_G, 'os')
local began, start = os and os.clock(), redis.call('TIME')
local wanted = tonumber(ARGV[1]) / 1000
repeat
  local now = redis.call('TIME')
until now[1] - start[1] + (now[2] - start[2]) / 1e6 >= wanted or os and os.clock() - began >= wanted
return 1
";

/// Name of the function in [`BUSY_LIBRARY`].
pub const BUSY_FUNCTION: &str = "busy_loop";

/// [`BUSY_LOOP`] as a function library, for servers that support functions.
pub const BUSY_LIBRARY: &str = "\
#!lua name=busy
local function busy_loop(keys, args)
  local os = rawget(_G, 'os')
  local began, start = os and os.clock(), redis.call('TIME')
  local wanted = tonumber(args[1]) / 1000
  repeat
    local now = redis.call('TIME')
  until now[1] - start[1] + (now[2] - start[2]) / 1e6 >= wanted or os and os.clock() - began >= wanted
  return 1
end
redis.register_function{function_name='busy_loop', callback=busy_loop, flags={'no-writes'}}
";

/// Returns the command that runs [`BUSY_LOOP`] for `time`.
pub fn busy_eval(time: Duration) -> Vec<String> {
    eval(BUSY_LOOP, time)
}

/// Returns the command that runs `body`, a variant of [`BUSY_LOOP`], for `time`.
pub fn eval(body: &str, time: Duration) -> Vec<String> {
    command("EVAL", body, time)
}

/// Returns the command that runs a loaded script for `time`.
pub fn evalsha(sha1: &str, time: Duration) -> Vec<String> {
    command("EVALSHA", sha1, time)
}

/// Returns the command that runs the function of [`BUSY_LIBRARY`] for `time`.
pub fn busy_fcall(time: Duration) -> Vec<String> {
    command("FCALL", BUSY_FUNCTION, time)
}

fn command(name: &str, script: &str, time: Duration) -> Vec<String> {
    [name, script, "0", &time.as_millis().to_string()].map(str::to_owned).to_vec()
}

/// Loads a script and returns its SHA1.
#[track_caller]
pub fn load(client: &mut Client, body: &str) -> String {
    text(&client.call(&["SCRIPT", "LOAD", body]))
}

/// Loads [`BUSY_LIBRARY`].
#[track_caller]
pub fn load_library(client: &mut Client) {
    let reply = client.call(&["FUNCTION", "LOAD", "REPLACE", BUSY_LIBRARY]);
    assert!(!matches!(reply, Value::ServerError(_)), "FUNCTION LOAD: {reply:?}");
}
