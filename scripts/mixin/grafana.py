"""Generates the alerts as Grafana-managed rules from the output of the mixin, and checks them against Grafana's description of the file.

    grafana.py generate FOLDER     write the file below FOLDER, with its path in the repository
    grafana.py check FOLDER        check the file, and write rules with the same queries and unit tests for promtool into FOLDER
"""

import json
import pathlib
import re
import sys

import _jsonnet

REPOSITORY = pathlib.Path(__file__).parents[2]
FILE = pathlib.Path("deploy/grafana/alerting/redis-script.rules.yml")
MIXIN = REPOSITORY / "deploy/mixin/mixin.libsonnet"

# Grafana's shortest evaluation interval is 10 s. The second group has the default of Prometheus.
INTERVALS = {"redis-script-now": "10s", "redis-script-health": "1m", "redis-script-trend": "5m"}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

PLACE = "{{ $labels.target }} (instance {{ $labels.instance }}{{ with $labels.pod }}, pod {{ . }}{{ end }})"
BLOCKED = """\
last_over_time(redis_script_blocked_seconds[1m])
  >= ignoring (severity) group_right () last_over_time(redis_script_slow_threshold_seconds{severity="%s"}[1m])"""
# Joins the name of a script, because a text cannot query it.
NAMED = """\
(
%s
)
  * on (job, instance, target, script) group_left (name) redis_script_info"""

# Queries that differ from those of Prometheus, because Grafana has no counterpart to recording rules that are evaluated
# every second. All other queries are the same, with recording rules replaced by subqueries.
QUERIES = {
    ("RedisScriptRunning", "warning"): BLOCKED % "warning",
    ("RedisScriptRunning", "critical"): BLOCKED % "critical" + """
  or
label_replace(
  last_over_time(redis_script_blocked_seconds[1m])
    and ignoring (state) last_over_time(redis_script_target_state{state=~"busy_.+"}[1m]) == 1,
  "severity", "critical", "", ""
)""",
    ("RedisSlowScript", "warning"): NAMED % """\
  redis_script_last_slow_call_duration_seconds{severity="warning"}
    and time() - redis_script_last_slow_call_timestamp_seconds < 60
    unless ignoring (severity)
  (
    redis_script_last_slow_call_duration_seconds{severity="critical"}
      and time() - redis_script_last_slow_call_timestamp_seconds < 60
  )""",
    ("RedisSlowScript", "critical"): NAMED % """\
  redis_script_last_slow_call_duration_seconds{severity="critical"}
    and time() - redis_script_last_slow_call_timestamp_seconds < 60""",
    ("RedisSlowCommand", "warning"): """\
redis_script_last_blockage_duration_seconds{cause!~"script|function"}
  >= ignoring (cause, severity) group_left () redis_script_slow_threshold_seconds{severity="warning"}
  and time() - redis_script_last_blockage_timestamp_seconds < 60""",
}
# Alerts with a query that is wrapped.
WRAPPED = {"RedisScriptCreeping": NAMED}

# Texts that contain more with a query() than without.
TEXTS = {
    "RedisScriptRunning": {
        "summary": "{{ $labels.target }} is blocked, most likely by a script.",
        "description": PLACE + " has been blocked for {{ $values.A.Value | humanizeDuration }}. Next: see what it runs on the "
                       "dashboard or on the exporter's status page. Once the server answers BUSY, SCRIPT KILL ends a script, and "
                       "FUNCTION KILL a function."},
    "RedisSlowScript": {
        "description": PLACE + ": a call ({{ $labels.command }}) of {{ $labels.name }} ({{ $labels.script }}) took "
                       "{{ $values.A.Value | humanizeDuration }}, and all other clients waited for it. Next: find its caller with "
                       "SLOWLOG GET, or in the exporter's log."},
    "RedisScriptTargetDown": {
        "summary": "{{ $labels.target }} can't be reached, or rejects the exporter's credentials.",
        "description": PLACE + " has not been reachable, or has rejected the exporter's user or password, for at least 30 s. A server "
                       "that a script blocks is reachable. Next: see which in the exporter's log."},
    "RedisScriptCreeping": {
        "description": PLACE + ": the slowest calls of {{ $labels.name }} ({{ $labels.script }}) reach the exporter's --slow.warning "
                       "in {{ $values.A.Value | humanizeDuration }} if they keep growing as in the last 2 days. Next: find the key that grows "
                       "with SLOWLOG GET, and have the script process it in bounded steps."},
}

RECORDED = re.compile(r"\b([a-z]+:redis_script_\w+:\w+)(\{[^}]*\})?(\[\w+\])?( offset)?")


def fail(text):
    sys.exit(f"check-mixin: {text}")


def shipped():
    """Returns the groups of the shipped rules."""
    program = f"(import {json.dumps(str(MIXIN))}).prometheusAlerts.groups + (import {json.dumps(str(MIXIN))}).prometheusRules.groups"
    return json.loads(_jsonnet.evaluate_snippet("grafana", program))


def inlined(query, recorded, interval):
    """Inserts the queries of recording rules."""
    def put(found):
        name, selector, window, offset = found.groups()
        if name not in recorded or selector or (offset and not window):
            fail(f"{found[0]} cannot be put into a query: add the alert to QUERIES in scripts/mixin/grafana.py")
        expression = f"({inlined(recorded[name], recorded, interval)})"
        return expression + (f"{window[:-1]}:{interval}]" if window else "") + (offset or "")

    return RECORDED.sub(put, query)


def parts(template):
    """Returns the texts and actions of a template, without the white space that `{{-` and `-}}` trim."""
    tokens = re.split(r"(\{\{.*?\}\})", template)
    for index in range(1, len(tokens), 2):
        if tokens[index].startswith("{{- "):
            tokens[index - 1] = tokens[index - 1].rstrip()
        if tokens[index].endswith(" -}}"):
            tokens[index + 1] = tokens[index + 1].lstrip()
    return [token if index % 2 == 0 else token.strip("{}- ").join(("{{ ", " }}")) for index, token in enumerate(tokens)]


def without_queries(template):
    """Returns the template for the case that no query() returns a result, without the branches that need one."""
    # Stack of [branches that were kept, text of the open branch, whether it is kept, whether a kept `else` was reached].
    stack = [{"text": ""}]
    for token in parts(template):
        if not token.startswith("{{"):
            stack[-1]["text"] += token
            continue
        action = token[3:-3]
        word = action.split(" ", 1)[0]
        needs = "query" in action or "$cli" in action
        if word in ("if", "with"):
            stack.append({"text": "", "kept": [], "condition": None if needs else action})
            if needs and "not" in action.split():
                fail(f"add the alert to TEXTS in scripts/mixin/grafana.py: {action}")
        elif word == "else":
            top = stack[-1]
            if top["condition"]:
                top["kept"].append((top["condition"], top["text"]))
            top["condition"] = None if needs else action
            top["text"] = ""
        elif word == "end":
            top = stack.pop()
            if top["condition"]:
                top["kept"].append((top["condition"], top["text"]))
            text = ""
            for index, (condition, branch) in enumerate(top["kept"]):
                if index == 0 and condition == "else":
                    text = branch
                    break
                condition = condition.removeprefix("else ") if index == 0 else condition
                text += f"{{{{ {condition} }}}}{branch}"
            else:
                text += "{{ end }}" if top["kept"] else ""
            stack[-1]["text"] += text
        elif needs or action.startswith("$server :="):
            continue
        else:
            stack[-1]["text"] += token
    text = re.sub(r"\$value\b", "$values.A.Value", stack[0]["text"])
    return re.sub(r"\s+", " ", text).strip()


def rules():
    """Yields each group with its interval and rules."""
    for group in shipped():
        recorded = {rule["record"]: rule["expr"] for rule in group["rules"] if "record" in rule}
        alerts = [rule for rule in group["rules"] if "alert" in rule]
        many = {one["alert"] for one in alerts if sum(other["alert"] == one["alert"] for other in alerts) > 1}
        result = []
        for alert in alerts:
            name, severity = alert["alert"], alert["labels"]["severity"]
            query = QUERIES.get((name, severity)) or inlined(alert["expr"], recorded, group.get("interval", "1m"))
            query = WRAPPED.get(name, "%s") % query
            texts = {key: TEXTS.get(name, {}).get(key) or (text if key == "runbook_url" else without_queries(text))
                     for key, text in alert["annotations"].items()}
            # Grafana requires unique titles within a folder.
            title = f"{name} ({severity})" if name in many and severity != "critical" else name
            uid = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
            result.append({
                "uid": f"{uid}-{severity}" if name in many else uid,
                "title": title,
                "condition": "B",
                "data": [
                    {
                        "refId": "A",
                        "relativeTimeRange": {"from": 600, "to": 0},
                        "datasourceUid": "prometheus",
                        "model": {"refId": "A", "expr": query, "instant": True, "range": False, "editorMode": "code"},
                    },
                    {
                        "refId": "B",
                        "relativeTimeRange": {"from": 0, "to": 0},
                        "datasourceUid": "__expr__",
                        "model": {
                            "refId": "B", "type": "math", "expression": "is_number($A)",
                            "datasource": {"type": "__expr__", "uid": "__expr__"}},
                    },
                ],
                "noDataState": "OK",
                "execErrState": "Error",
                "for": alert.get("for", "0s"),
                "annotations": texts,
                "labels": alert["labels"],
            })
        yield group["name"], INTERVALS[group["name"]], result


def yaml(value, indent=0):
    """Yields lines of YAML. Multi-line texts are literal blocks; other texts with special characters are quoted as in JSON."""
    space = "  " * indent
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, (dict, list)):
                yield f"{space}{key}:"
                yield from yaml(one, indent + 1)
            elif isinstance(one, str) and "\n" in one:
                yield f"{space}{key}: |-"
                yield from (f"{space}  {line}" for line in one.split("\n"))
            else:
                plain = isinstance(one, str) and re.fullmatch(r"[A-Za-z_][\w -]*|\d+[smhd]", one)
                yield f"{space}{key}: {one if plain else json.dumps(one, ensure_ascii=False)}"
    else:
        for one in value:
            first, *rest = yaml(one, indent + 1)
            yield f"{space}- {first.lstrip()}"
            yield from rest


def generated():
    groups = [{"orgId": 1, "name": name, "folder": "Redis scripts", "interval": interval, "rules": list(below)}
              for name, interval, below in rules()]
    head = [
        "# The alerts of alerts/redis-script.rules.yml as Grafana-managed rules; README.md has the differences.",
        "#",
        "# Generated by `scripts/check-deploy.sh --write`.",
    ]
    return "\n".join([*head, *yaml({"apiVersion": 1, "groups": groups})]) + "\n"


def seconds(duration):
    if not re.fullmatch(r"\d+[smhd]", duration):
        fail(f"{duration} is no duration")
    return int(duration[:-1]) * UNITS[duration[-1]]


def check_shape(document):
    """Checks the fields of the file against Grafana's description, and values that Grafana rejects."""
    if set(document) != {"apiVersion", "groups"} or document["apiVersion"] != 1:
        fail(f"the file of Grafana has other keys: {sorted(document)}")
    uids, titles = set(), set()
    for group in document["groups"]:
        if set(group) != {"orgId", "name", "folder", "interval", "rules"} or not group["rules"]:
            fail(f"the group {group.get('name')} has other keys: {sorted(group)}")
        if seconds(group["interval"]) < 10 or seconds(group["interval"]) % 10:
            fail(f"the interval of {group['name']} is no multiple of 10 s")
        for rule in group["rules"]:
            title = rule["title"]

            def hold(condition, what, title=title):
                if not condition:
                    fail(f"{title}: {what}")

            hold(set(rule) == {"uid", "title", "condition", "data", "noDataState", "execErrState", "for", "annotations", "labels"},
                 f"other keys: {sorted(rule)}")
            hold(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", rule["uid"]), "the uid is longer than 40 characters, or has others")
            hold(rule["uid"] not in uids and title not in titles and len(title) <= 190, "the uid or title is used twice or too long")
            uids.add(rule["uid"])
            titles.add(title)
            hold(rule["noDataState"] in ("NoData", "Alerting", "OK", "KeepLast"), "noDataState")
            hold(rule["execErrState"] in ("Error", "Alerting", "OK", "KeepLast"), "execErrState")
            hold(seconds(rule["for"]) >= 0, "for")
            references = [one["refId"] for one in rule["data"]]
            hold(len(set(references)) == len(references) and rule["condition"] in references, "condition is no refId")
            for one in rule["data"]:
                hold(set(one) == {"refId", "relativeTimeRange", "datasourceUid", "model"}, f"keys of {one['refId']}")
                hold(one["model"]["refId"] == one["refId"], "refId of the model")
                window = one["relativeTimeRange"]
                if one["datasourceUid"] == "__expr__":
                    used = re.findall(r"\$(\w+)", one["model"]["expression"])
                    hold(used and set(used) < set(references), "an expression of no query")
                else:
                    hold(window["from"] > window["to"] >= 0, "relativeTimeRange")
                    hold(one["model"]["instant"] and not RECORDED.search(one["model"]["expr"]), "a query of a recording rule")
                    hold("$" not in one["model"]["expr"], "a variable in a query")
            hold(rule["labels"]["severity"] in ("warning", "critical"), "severity")
            hold(set(rule["annotations"]) == {"summary", "description", "runbook_url"}, "annotations")
            for text in rule["annotations"].values():
                # In texts, Grafana expands only ${…} from the environment. $value is a string with all values in Grafana.
                hold("query" not in text and "${" not in text and not re.search(r"\$value\b", text), f"not for Grafana: {text}")
                hold(text.count("{{") == text.count("}}") and not re.search(r" [.,:]|\(\s|\s\)|<<|  ", re.sub(r"\{\{.*?\}\}", "x", text)),
                     f"white space or braces: {text}")
                openings = len(re.findall(r"\{\{ (?:if|with) ", text))
                hold(openings == text.count("{{ end }}"), f"an action without end: {text}")
                assigned = set(re.findall(r"\{\{ (\$\w+) := ", text))
                known = set(re.findall(r"\$[\w.]+", text)) - assigned
                hold(all(re.fullmatch(r"\$labels\.\w+|\$values\.A\.Value", one) for one in known), f"a variable: {known}")


def check(folder):
    document = json.loads(_jsonnet.evaluate_snippet("grafana", f"std.parseYaml(importstr {json.dumps(str(REPOSITORY / FILE))})"))
    check_shape(document)
    alerts = {(rule["alert"], rule["labels"]["severity"]) for group in shipped() for rule in group["rules"] if "alert" in rule}
    found = {(rule["title"].split(" ")[0], rule["labels"]["severity"]) for group in document["groups"] for rule in group["rules"]}
    if alerts != found:
        fail(f"the file of Grafana has other alerts: {sorted(alerts ^ found)}")

    # The same queries as Prometheus rules. The condition B is true for each value of A.
    groups = [{"name": group["name"], "interval": group["interval"], "rules": [
        {"alert": rule["title"].split(" ")[0], "expr": rule["data"][0]["model"]["expr"], "for": rule["for"], "labels": rule["labels"]}
        for rule in group["rules"]]} for group in document["groups"]]
    creeping = next(rule["expr"] for group in groups for rule in group["rules"] if rule["alert"] == "RedisScriptCreeping")
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "RedisScriptCreeping"]
    groups = [group for group in groups if group["rules"]]
    (folder / "tests").mkdir(parents=True)
    (folder / "redis-script.rules.yml").write_text(json.dumps({"groups": groups}))
    for name in ("cache.yml", "health.yml", "setups.yml"):
        text = (REPOSITORY / "alerts/tests" / name).read_text()
        # Without the texts, and without cases about all alerts, in which slow calls have no redis_script_info.
        text = re.sub(r"\n( +)exp_annotations:[^\n]*(?:\n\1 [^\n]*)*", "", text)
        text = re.sub(r"\n( +)- expr: ALERTS(?=\n)(?:\n\1 [^\n]*)*", "", text)
        (folder / "tests" / name).write_text(text)
    for path in pathlib.Path(__file__).parent.glob("grafana.*.yml"):
        (folder / "tests" / path.name).write_text(path.read_text().replace("<<creeping>>", " ".join(creeping.split())))
    print(f"check-mixin: {len(found)} Grafana-managed rules")


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        target = pathlib.Path(sys.argv[2]) / FILE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(generated())
    else:
        check(pathlib.Path(sys.argv[2]))
