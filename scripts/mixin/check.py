"""Renders the mixin and checks its output. scripts/check-mixin.sh runs it.

    check.py FOLDER    write rules and unit tests for promtool, and dashboards for dashboard-linter's rules, into FOLDER
"""

import json
import pathlib
import re
import sys

import _jsonnet

REPOSITORY = pathlib.Path(__file__).parents[2]
MIXIN = REPOSITORY / "deploy/mixin/mixin.libsonnet"
SHIPPED = {path.name: path.read_text() for path in [
    REPOSITORY / "alerts/redis-script.rules.yml", *sorted((REPOSITORY / "dashboards").glob("*.json"))]}

# A selector with characters that must be escaped somewhere: quotes, a backslash, a percent sign, YAML separators.
SELECTOR = 'environment="live",path!~"100%\\\\d: #.*"'
LABELS = {"environment": "live", "cluster": "eu"}
OTHERS = {
    "redisScriptSelector": SELECTOR, "showMultiCluster": True, "runbookURL": "https://runbooks.example/redis",
    "targetDownFor": "3m", "settingFor": "7m", "timeLimitSeconds": 11, "cacheGrowth": 13, "cacheSize": 17, "staleSeconds": 19,
    "exporterFor": "23m", "creepingDays": 29, "dashboardTitlePrefix": "EU: ", "dashboardTags": ["eu", "lua"],
    "dashboardRefresh": "31s"}
# Texts in the rules that result from these settings.
TEXTS = [
    "for: 3m", "for at least 3 minutes", "for: 7m", "> 11", "lua-time-limit 11000", "> 13 and", "> 17)", "> 13", "> 19", "for: 23m",
    "at least 23 minutes", "< 29 * 86400", "https://runbooks.example/redis#redisslowscript"]

METRIC = re.compile(r"(?<![\w:])(?:(?:\w+:)?redis_script_\w+(?::\w+)?|up\b|process_\w+)")


def fail(text):
    sys.exit(f"check-mixin: {text}")


def render(config, fields=("prometheusAlerts", "prometheusRules", "grafanaDashboards")):
    """Returns fields of the mixin with these settings."""
    program = f"""
        local mixin = (import {json.dumps(str(MIXIN))}) + {{ _config+:: {json.dumps(config)} }};
        {{ [field]: mixin[field] for field in {json.dumps(fields)} }}
    """
    return json.loads(_jsonnet.evaluate_snippet("check", program))


def groups(output):
    return output["prometheusAlerts"]["groups"] + output["prometheusRules"]["groups"]


def queries(output):
    """Yields the queries of rules and their texts: place, text, whether it is a template."""
    for group in groups(output):
        for rule in group["rules"]:
            place = rule.get("alert", rule.get("record"))
            yield place, rule["expr"], False
            for text in rule.get("annotations", {}).values():
                for action in re.findall(r'printf ("(?:[^"\\]|\\.)*")', text):
                    yield place, json.loads(action), True


def check_selectors(output):
    """Checks that each metric in a rule has the selector, and each list of labels that identify a server has the cluster."""
    count = 0
    for place, query, is_format in queries(output):
        selector = "{" + (SELECTOR.replace("%", "%%") if is_format else SELECTOR)
        for found in METRIC.finditer(query):
            count += 1
            if not query[found.end():].startswith(selector):
                fail(f"{place}: {found[0]} lacks the selector: {query}")
        if re.search(r"\b(by|on) \((?!cluster, )[^)]*\bjob\b", query) or ("job=%q" in query) != ("cluster=%q" in query):
            fail(f"{place}: the label of the cluster is missing: {query}")
    written = sum(text.count("redis_script_") for _, text, _ in queries(output))
    if count < written:
        fail(f"{written} names of metrics in the rules, but only {count} were recognised")
    for name, dashboard in output["grafanaDashboards"].items():
        selector = "{" + SELECTOR + ',cluster=~"$cluster"'
        for query in expressions(dashboard):
            if query == f"label_values(redis_script_target_up{{{SELECTOR}}}, cluster)":
                continue
            for found in METRIC.finditer(query):
                if not query[found.end():].startswith(selector):
                    fail(f"{name}: {found[0]} lacks the selector: {query}")
            if re.search(r"\b(by|on) \((?!cluster, )[^)]*\bjob\b", query):
                fail(f"{name}: the label of the cluster is missing: {query}")


def expressions(value):
    """Yields the queries of a dashboard."""
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, str) and (key == "expr" or one.startswith("label_values(")):
                yield one
            else:
                yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def with_labels(test):
    """Returns a unit test whose series and alerts have LABELS."""
    quoted = "".join(f'{name}="{value}", ' for name, value in LABELS.items())
    plain = "".join(f"{name}: {value}, " for name, value in LABELS.items())
    test = re.sub(r"(series: '\w+\{)", lambda found: found[1] + quoted, test)
    test = re.sub(r"(exp_labels: (?:&[\w-]+ )?\{)", lambda found: f"{found[1]} {plain}", test)
    test = re.sub(r"exp_labels:\n( +)", lambda found: "exp_labels:\n" + "".join(
        f"{found[1]}{name}: {value}\n" for name, value in LABELS.items()) + found[1], test)
    # Samples of the ALERTS series itself.
    test = re.sub(r"(labels: '(?:ALERTS)?\{)(alertname=\S+ alertstate=)", lambda found: found[1] + quoted + found[2], test)
    return test.replace("sum without (", f"sum without ({', '.join(LABELS)}, ")


def write_rules(folder, output, tests):
    """Writes rules and their unit tests, which refer to ../redis-script.rules.yml."""
    (folder / "tests").mkdir(parents=True)
    # JSON is valid YAML, so promtool can read it.
    (folder / "redis-script.rules.yml").write_text(json.dumps({"groups": groups(output)}))
    for name, text in tests.items():
        (folder / "tests" / name).write_text(text)


def main(folder):
    tests = {path.name: path.read_text() for path in (REPOSITORY / "alerts/tests").glob("*.yml")}

    default = render({})
    files = render({}, ["files"])["files"]
    if files != SHIPPED:
        stale = [name for name in SHIPPED if files.get(name) != SHIPPED[name]]
        fail(f"the output differs from {stale}: run scripts/check-deploy.sh --write")
    for name, dashboard in default["grafanaDashboards"].items():
        if dashboard != json.loads(SHIPPED[name]):
            fail(f"the dashboard {name} differs from the shipped one")
    write_rules(folder / "default", default, {})

    selected = render({"redisScriptSelector": SELECTOR, "showMultiCluster": True})
    check_selectors(selected)
    clusters = pathlib.Path(__file__).with_name("clusters.yml").read_text()
    write_rules(folder / "selected", selected, {name: with_labels(text) for name, text in tests.items()} | {"clusters.yml": clusters})

    other = render(OTHERS)
    text = "\n".join(f"for: {rule.get('for')}\n{rule['expr']}\n" + "\n".join(rule.get("annotations", {}).values())
                     for group in groups(other) for rule in group["rules"])
    for expected in TEXTS:
        if expected not in text:
            fail(f"a setting has no effect: no rule has '{expected}'")
    write_rules(folder / "other", other, {})
    for name, dashboard in other["grafanaDashboards"].items():
        said = json.dumps(dashboard)
        if not (dashboard["title"].startswith("EU: ") and dashboard["tags"] == ["eu", "lua"] and dashboard["refresh"] == "31s"
                and "https://runbooks.example/redis" in said and "/blob/main/docs/runbooks.md" not in said):
            fail(f"a setting has no effect in {name}")
        (folder / name).write_text(said)
    for output in (default, selected, other):
        if re.search(r"<<\w+>>", json.dumps(output)):
            fail("a placeholder is left: deploy/mixin/mixin.libsonnet lacks it")
    print("check-mixin: output equal to the shipped files; each query has the selector and the cluster")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
