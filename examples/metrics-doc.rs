//! Prints the documentation of the metrics: `cargo run --example metrics-doc > docs/METRICS.md`.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

fn main() {
    print!("{}", redis_script_exporter::metrics_document());
}
