#!/usr/bin/env bash
# Checks the dependencies with cargo-deny, and installs it if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
cargo deny --locked check
