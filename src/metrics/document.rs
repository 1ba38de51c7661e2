//! The documentation of the metrics, made from the table.

use std::fmt::Write as _;

use super::families::{FAMILIES, Family};

/// Returns the text of `docs/METRICS.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made by `cargo run --example metrics-doc > docs/METRICS.md`; a test fails when it is stale. -->\n\n\
         Every series of a server has the label `target` (its name in `--config.file`, else `host:port`, or the path of a \
         unix socket). Base units. \
         Series whose labels are known beforehand exist from the start, at 0. A number that only the server knows appears \
         with the first reply that has it, and is absent if the server does not report it.\n\n\
         `command` is one of `eval`, `evalsha`, `eval_ro`, `evalsha_ro`, `fcall`, `fcall_ro`. `script` is the first \
         12 hex digits of the script's SHA1; the function's name; `~` and 12 digits of a hash over the first 128 \
         bytes and the length, for an EVAL whose body was cut by the slow log; or `other`, past \
         `--script.max-series`. `process_*` exist on Linux only.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for family in FAMILIES {
        let Family { descriptor, .. } = family;
        let target = family.is_of_target().then_some(&"target");
        let labels: Vec<String> =
            target.into_iter().chain(descriptor.labels).map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" {}", labels.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} |{labels} | {} |",
            descriptor.name,
            descriptor.kind.as_str(),
            descriptor.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == document(),
            "docs/METRICS.md is stale: cargo run --example metrics-doc > docs/METRICS.md"
        );
    }
}
