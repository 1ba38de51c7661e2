#!/usr/bin/env bash
# Checks deploy/: Kubernetes documents against the published schema of their kind, the unit with systemd, chart and mixin
# with separate scripts. Also checks the Prometheus configurations in docs/agents.md and docs/switching.md with promtool.
#
#   scripts/check-deploy.sh           check
#   scripts/check-deploy.sh --write   generate the files that are made from the chart, the rules and the dashboards
#
# A missing tool is reported; with CI=true it is an error, except for kubectl, which is optional.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}

skip() {
    echo "check-deploy: SKIPPED: $*" >&2
    [ "${CI:-}" != true ] || exit 1
}

fail() {
    echo "check-deploy: $*" >&2
    exit 1
}

if [ "${1:-}" = --write ]; then
    scripts/check-mixin.sh --write
    exec scripts/check-helm.sh --write
fi
scripts/check-helm.sh
scripts/check-mixin.sh

if [ -e "$cache/kubernetes/installed.json" ]; then
    node scripts/kubernetes/check.mjs "$cache/kubernetes" deploy/kubernetes/*/*.yaml
else
    skip "the schemas of Kubernetes are not installed; deploy/kubernetes was not checked against them"
fi
if command -v kubectl >/dev/null && kubectl kustomize --help >/dev/null 2>&1; then
    for folder in deploy/kubernetes/*/; do
        kubectl kustomize "$folder" >/dev/null || fail "kustomize cannot build $folder"
    done
fi

# Prometheus configurations in documents: each YAML block with scrape_configs and without keys of other programs.
if command -v promtool >/dev/null; then
    blocks=$(mktemp -d)
    awk -v folder="$blocks" '
        /^```yaml/ { file = sprintf("%s/%03d.yml", folder, ++count); next }
        /^```/ { if (file) close(file); file = ""; next }
        file { print > file }
    ' docs/agents.md docs/switching.md
    checked=0
    while IFS= read -r block; do
        flags=()
        ! grep -q '^remote_write:' "$block" || flags=(--agent)
        said=$(promtool check config --syntax-only "${flags[@]}" "$block" 2>&1) || fail "a configuration in docs/: $said"
        checked=$((checked + 1))
    done < <(grep -l '^scrape_configs:' "$blocks"/*.yml)
    rm -r "$blocks"
    [ "$checked" -ge 3 ] || fail "only $checked configurations in docs/agents.md and docs/switching.md were found"
else
    skip "promtool is not installed; the configurations in documents were not checked"
fi

# The program that the unit starts need not be installed on this machine.
unit=deploy/systemd/redis-script-exporter.service
if command -v systemd-analyze >/dev/null; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    sed 's|^ExecStart=/usr/local/bin/redis-script-exporter|ExecStart=/bin/true|' "$unit" >"$scratch/${unit##*/}"
    said=$(systemd-analyze verify --man=no "$scratch/${unit##*/}" 2>&1) || fail "$said"
    [ -z "$said" ] || fail "$said"
    # Exposure level from 0 to 10; lower is better.
    systemd-analyze security --offline=yes --threshold=20 "$scratch/${unit##*/}" >/dev/null ||
        fail "the exposure level of the unit is above 2.0: systemd-analyze security --offline=yes $unit"
else
    echo "check-deploy: SKIPPED: systemd-analyze is not installed" >&2
fi
echo "check-deploy: passed"
