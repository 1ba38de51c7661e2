#!/usr/bin/env bash
# Checks dashboards/*.json against the schema that Grafana publishes (scripts/dashboards/).
#
# The schema and a TypeScript compiler, pinned by hash, are stored in the cache folder: $REDIS_SCRIPT_EXPORTER_CACHE, by
# default redis-script-exporter in the user's cache folder. If they can't be downloaded, the check is skipped with a
# message; with CI=true this is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED: the dashboards were not checked against Grafana's schema: $*" >&2
    [ "${CI:-}" != true ]
    exit
}

cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/grafana-schema

command -v node >/dev/null || skip "node is not installed"
if ! cmp -s scripts/dashboards/package-lock.json "$cache/installed.json"; then
    command -v npm >/dev/null || skip "npm is not installed"
    rm -rf "$cache"
    mkdir -p "$cache"
    cp scripts/dashboards/package.json scripts/dashboards/package-lock.json "$cache"
    npm ci --prefix "$cache" --silent --ignore-scripts --no-audit --no-fund >&2 || skip "npm could not download it"
    # Written last, so that an interrupted download is repeated.
    cp scripts/dashboards/package-lock.json "$cache/installed.json"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$cache/node_modules" "$scratch/node_modules"
node scripts/dashboards/check.mjs "$scratch" dashboards/*.json
