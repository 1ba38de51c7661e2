#!/usr/bin/env bash
# Checks the mixin in deploy/mixin/: its templates match alerts/ and dashboards/, its output with the default settings
# equals these files, and with a selector and a cluster label the rules pass their unit tests. Checks the Grafana-managed
# rules in deploy/grafana/, which are generated from the mixin, against Grafana's description of the file, and tests their
# queries.
#
#   scripts/check-mixin.sh             check
#   scripts/check-mixin.sh --write     generate the templates and the Grafana-managed rules
#
# A missing tool is reported; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1
cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

skip() {
    echo "check-mixin: SKIPPED: $*" >&2
    [ "${CI:-}" != true ] || exit 1
}

fail() {
    echo "check-mixin: $*" >&2
    exit 1
}

export PYTHONPATH=$cache/jsonnet
if [ "${1:-}" = --write ]; then
    python3 scripts/mixin/generate.py .
    [ -e "$cache/jsonnet/installed.txt" ] || fail "Jsonnet is not installed: run scripts/setup.sh"
    python3 scripts/mixin/grafana.py generate .
    exit
fi

python3 scripts/mixin/generate.py "$scratch/generated"
diff -r "$scratch/generated/deploy/mixin/templates" deploy/mixin/templates >/dev/null ||
    fail "deploy/mixin/templates is stale: run scripts/check-deploy.sh --write"

if [ ! -e "$cache/jsonnet/installed.txt" ]; then
    skip "Jsonnet is not installed; the mixin was not rendered: run scripts/setup.sh"
    exit 0
fi
python3 scripts/mixin/grafana.py generate "$scratch/generated"
diff -r "$scratch/generated/deploy/grafana/alerting" deploy/grafana/alerting >/dev/null ||
    fail "deploy/grafana/alerting is stale: run scripts/check-deploy.sh --write"
python3 scripts/mixin/check.py "$scratch"
python3 scripts/mixin/grafana.py check "$scratch/grafana"
if command -v promtool >/dev/null; then
    for rules in "$scratch"/*/redis-script.rules.yml; do
        said=$(promtool check rules "$rules" 2>&1) || fail "$said"
    done
    # With the default, garbage collection takes a fifth of the CPU time.
    said=$(GOGC=800 promtool test rules "$scratch"/{selected,grafana}/tests/*.yml 2>&1) || fail "$said"
else
    skip "promtool is not installed; the rules of the mixin were not checked"
fi
if command -v node >/dev/null; then
    said=$(node scripts/dashboards/lint.mjs "$scratch"/*.json 2>&1) || fail "$said"
else
    skip "node is not installed; the dashboards of the mixin were not checked"
fi
echo "check-mixin: passed"
