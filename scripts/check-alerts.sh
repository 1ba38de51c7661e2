#!/usr/bin/env bash
# Checks alerts/ and deploy/prometheus/ with the Prometheus and Alertmanager tools: syntax, unit tests, routes. A missing
# tool is reported; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/../alerts"

# Debian installs servers in directories that are not in an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin
rules=redis-script.rules.yml
config=alertmanager.example.yml

# needs TOOL: succeeds if the tool is installed.
needs() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "check-alerts: SKIPPED: $1 is not installed; run scripts/setup.sh" >&2
    [ "${CI:-}" != true ] || exit 1
    return 1
}

# route RECEIVER LABEL=VALUE…: requires that an alert with these labels is sent only to this receiver.
route() {
    local answer
    answer=$(amtool config routes test --config.file="$config" --verify.receivers="$@" 2>&1) ||
        { echo "check-alerts: not routed to $1: ${*:2}: $answer" >&2; exit 1; }
}

if needs promtool; then
    promtool check rules "$rules"
    # With the default, garbage collection takes a fifth of the CPU time.
    GOGC=800 promtool test rules tests/*.yml
    promtool check config ../deploy/prometheus/*.yml

    # Texts describe the time of the evaluation, so queries in texts must not look back.
    ! grep -nE '\{\{.*(_over_time|\[[0-9a-z]+\])' "$rules" ||
        { echo "check-alerts: a text looks back in time" >&2; exit 1; }

    # Names of recording rules have the form level:metric:operations.
    ! grep -E '^ *- record: ' "$rules" | grep -vE ': [a-z_]+:[a-z0-9_]+:[a-z0-9_]+$' ||
        { echo "check-alerts: a name is not level:metric:operations" >&2; exit 1; }

    # Each alert needs a unit test in which it fires, one in which it does not, and a section in the runbooks.
    for alert in $(sed -n 's/^ *- alert: //p' "$rules" | sort -u); do
        grep -A 3 -h "alertname: $alert\$" tests/*.yml | grep -q 'exp_alerts: \[\]' ||
            { echo "check-alerts: no test in which $alert does not fire" >&2; exit 1; }
        grep -A 3 -h "alertname: $alert\$" tests/*.yml | grep -q 'exp_labels:' ||
            { echo "check-alerts: no test in which $alert fires" >&2; exit 1; }
        grep -qx "## $alert" ../docs/runbooks.md ||
            { echo "check-alerts: docs/runbooks.md has no section $alert" >&2; exit 1; }
        grep -q "runbooks.md#${alert,,}\$" "$rules" ||
            { echo "check-alerts: no runbook_url leads to the section $alert" >&2; exit 1; }
    done
fi

if needs amtool; then
    amtool check-config "$config"
    target=target=10.0.0.1:6379
    route pager alertname=RedisScriptRunning severity=critical "$target"
    route tickets alertname=RedisScriptRunning severity=warning "$target"
    route tickets alertname=RedisSlowScript severity=warning "$target" script=479664e89abc
    route tickets alertname=RedisSlowScript severity=critical "$target" script=479664e89abc
    route tickets alertname=RedisScriptExporterStale severity=warning
    route tickets alertname=RedisScriptCreeping severity=warning "$target" script=479664e89abc
    route pager alertname=RedisScriptTargetDown severity=critical "$target"
    route tickets alertname=SomethingElse
    echo "  routes SUCCESS"
fi
