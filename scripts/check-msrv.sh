#!/usr/bin/env bash
# Checks that the exporter compiles with the oldest supported version of Rust, `rust-version` in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
rustup toolchain install --profile minimal "$version"
cargo "+$version" check --locked --bins
