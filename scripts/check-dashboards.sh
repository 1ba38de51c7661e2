#!/usr/bin/env bash
# Checks dashboards/*.json (scripts/dashboards/):
#
# - with the rules of Grafana's dashboard-linter;
# - against the schema that Grafana publishes;
# - with a real Prometheus: every query is run on an artificial history, and must return the right number.
#
# The schema and a TypeScript compiler, pinned by hash, are stored in the cache directory: $REDIS_SCRIPT_EXPORTER_CACHE, by
# default redis-script-exporter in the user's cache directory. If the programs for a check are missing, it is skipped with a
# message; with CI=true this is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED: the dashboards were not checked $*" >&2
    [ "${CI:-}" != true ]
}

schema() {
    local cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/grafana-schema
    if ! cmp -s scripts/dashboards/package-lock.json "$cache/installed.json"; then
        command -v npm >/dev/null || { skip "against Grafana's schema: npm is not installed"; return; }
        rm -rf "$cache"
        mkdir -p "$cache"
        cp scripts/dashboards/package.json scripts/dashboards/package-lock.json "$cache"
        npm ci --prefix "$cache" --silent --ignore-scripts --no-audit --no-fund >&2 ||
            { skip "against Grafana's schema: npm could not download it"; return; }
        # Written last, so that an interrupted download is repeated.
        cp scripts/dashboards/package-lock.json "$cache/installed.json"
    fi
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    ln -s "$cache/node_modules" "$scratch/node_modules"
    node scripts/dashboards/check.mjs "$scratch" dashboards/*.json
}

if ! command -v node >/dev/null; then
    skip ": node is not installed"
    exit
fi
node scripts/dashboards/lint.mjs dashboards/*.json
schema
if command -v prometheus >/dev/null; then
    node scripts/dashboards/answers.mjs dashboards/*.json
else
    skip "with data: prometheus is not installed"
fi
