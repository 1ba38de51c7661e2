//! Runs the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    redis_script_exporter::run()
}
