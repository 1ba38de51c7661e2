#!/usr/bin/env bash
# Checks the chart in deploy/helm/: renders and lints it with many combinations of values, checks each document against the
# published schema of its kind and the rules with promtool, and compares the files generated from the chart.
#
#   scripts/check-helm.sh             check
#   scripts/check-helm.sh --write     generate the chart's table of values and schema, and deploy/kubernetes/
#
# A missing tool is reported; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$PATH:/usr/sbin:/sbin
cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

skip() {
    echo "check-helm: SKIPPED: $*" >&2
    [ "${CI:-}" != true ] || exit 1
}

fail() {
    echo "check-helm: $*" >&2
    exit 1
}

# chart COMMAND FOLDER: runs scripts/helm/chart.py. Filters Helm's messages about the symbolic links in the chart, which are
# intended.
chart() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$cache/helm python3 scripts/helm/chart.py "$@" \
        2> >(grep -v 'found symbolic link in path' >&2)
}

if [ ! -e "$cache/helm/installed.txt" ]; then
    skip "Helm is not installed; deploy/helm was not checked: run scripts/setup.sh"
    exit 0
fi
if [ "${1:-}" = --write ]; then
    chart generate .
    exit
fi

chart generate "$scratch/generated"
while IFS= read -r file; do
    cmp -s "$scratch/generated/$file" "$file" || fail "$file is stale: run scripts/check-helm.sh --write"
done < <(cd "$scratch/generated" && find . -type f)

chart render "$scratch/rendered"
if [ -e "$cache/kubernetes/installed.json" ]; then
    find "$scratch/rendered" -name '*.yaml' -print0 | xargs -0 node scripts/kubernetes/check.mjs "$cache/kubernetes"
else
    skip "the schemas of Kubernetes are not installed; the rendered chart was not checked against them"
fi
if command -v promtool >/dev/null; then
    for rules in "$scratch"/rendered/*/rules.json; do
        said=$(promtool check rules "$rules" 2>&1) || fail "$said"
    done
else
    skip "promtool is not installed; the rules in the chart were not checked"
fi
archive=$(chart package "$scratch")
tar -tzf "$archive" | grep 'files/dashboards/.*\.json' >/dev/null || fail "the package has no dashboards"
tar -xzOf "$archive" redis-script-exporter/files/redis-script.rules.yml | cmp -s - alerts/redis-script.rules.yml ||
    fail "the package has other rules than alerts/"
echo "check-helm: passed"
