#!/usr/bin/env bash
# Checks what is in alerts/ and deploy/prometheus/ with the tools of Prometheus and Alertmanager: syntax, unit tests, routes.
# A tool that is missing is said; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/../alerts"

# Debian keeps servers in folders that an ordinary user's PATH does not have.
PATH=$PATH:/usr/sbin:/sbin
rules=redis-script.rules.yml
config=alertmanager.example.yml

# needs TOOL: whether it is there.
needs() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "check-alerts: SKIPPED: $1 is not on this machine; scripts/setup.sh installs it" >&2
    [ "${CI:-}" != true ] || exit 1
    return 1
}

# route RECEIVER LABEL=VALUE…: an alert with these labels goes to this receiver, and nowhere else.
route() {
    local answer
    answer=$(amtool config routes test --config.file="$config" --verify.receivers="$@" 2>&1) ||
        { echo "check-alerts: not routed to $1: ${*:2}: $answer" >&2; exit 1; }
}

if needs promtool; then
    promtool check rules "$rules"
    promtool test rules tests/*.yml
    promtool check config ../deploy/prometheus/*.yml

    # What a text says holds at the moment of the evaluation: no query in one looks back.
    ! grep -nE '\{\{.*(_over_time|\[[0-9a-z]+\])' "$rules" ||
        { echo "check-alerts: a text says what held earlier" >&2; exit 1; }

    # Each alert has a unit test in which it fires, one in which it does not, and a section of the runbook.
    for alert in $(sed -n 's/^ *- alert: //p' "$rules" | sort -u); do
        grep -A 3 -h "alertname: $alert\$" tests/*.yml | grep -q 'exp_alerts: \[\]' ||
            { echo "check-alerts: no test in which $alert is quiet" >&2; exit 1; }
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
    route pager alertname=RedisScriptBusy severity=critical "$target" kind=script
    route pager alertname=RedisScriptRunning severity=critical "$target"
    route tickets alertname=RedisScriptRunning severity=warning "$target"
    route tickets alertname=RedisSlowScript severity=warning "$target" script=479664e89abc
    route tickets alertname=RedisSlowScript severity=critical "$target" script=479664e89abc
    route tickets alertname=RedisScriptExporterStale severity=warning
    route tickets alertname=SomethingElse
    echo "  routes SUCCESS"
fi
