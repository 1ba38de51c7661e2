//! Files of the status page, embedded in the binary.

use super::text::html;
use crate::config::Shard;

/// Embedded file.
pub(crate) struct Asset {
    /// URL path.
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) text: &'static str,
}

/// Files that the page loads. `config` reserves their paths.
pub(crate) const ASSETS: &[Asset] = &[
    Asset {
        path: "/status.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("assets/status.css"),
    },
    Asset {
        path: "/status.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("assets/status.js"),
    },
    Asset { path: "/idle.svg", content_type: "image/svg+xml", text: include_str!("assets/idle.svg") },
    Asset { path: "/blocked.svg", content_type: "image/svg+xml", text: include_str!("assets/blocked.svg") },
    Asset { path: "/down.svg", content_type: "image/svg+xml", text: include_str!("assets/down.svg") },
    Asset { path: "/degraded.svg", content_type: "image/svg+xml", text: include_str!("assets/degraded.svg") },
    Asset { path: "/unknown.svg", content_type: "image/svg+xml", text: include_str!("assets/unknown.svg") },
];

/// Renders the page; browsers without JavaScript show `summary`.
pub(crate) fn page(telemetry_path: &str, shard: Option<Shard>, summary: &str) -> String {
    // Relative, so that the page also works behind a proxy that adds a path prefix.
    let metrics = telemetry_path.trim_start_matches('/');
    let shard = shard.map(|shard| format!(", shard {shard}")).unwrap_or_default();
    include_str!("assets/status.html")
        .replace("{{shard}}", &html(&shard))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{metrics}}", &html(metrics))
        .replace("{{summary}}", &html(summary))
}
