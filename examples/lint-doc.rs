//! Prints the linter's documentation: `cargo run --example lint-doc > docs/lint.md`.
#![expect(clippy::print_stdout, reason = "prints a document")]

fn main() {
    print!("{}", redis_script_exporter::lint::document());
}
