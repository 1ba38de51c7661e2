//! Entry point of the exporter and its subcommands.

use std::process::ExitCode;

fn main() -> ExitCode {
    redis_script_exporter::run()
}
