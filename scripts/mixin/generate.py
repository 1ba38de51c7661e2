"""Generates the templates of the mixin from alerts/ and dashboards/.

    generate.py FOLDER     write the templates below FOLDER, with their paths in the repository

A template is the text of the shipped file with placeholders such as <<first>>. deploy/mixin/mixin.libsonnet replaces them; with
its default _config the result is the shipped file.
"""

import pathlib
import re
import sys

REPOSITORY = pathlib.Path(__file__).parents[2]
TEMPLATES = pathlib.Path("deploy/mixin/templates")
RULES = pathlib.Path("alerts/redis-script.rules.yml")
DASHBOARDS = pathlib.Path("dashboards")
RUNBOOKS = "/blob/main/docs/runbooks.md"

# Metrics in queries: those of the exporter, the ones recorded from them by rules, and those of a scrape.
METRIC = re.compile(r"(?<![\w:$.\"])((?:[a-z]+:)?redis_script_\w+(?::\w+)?|up|process_\w+)\b(\{)?")

# Constants in _config: alert, text in its rule, and the same text with the placeholder.
CONSTANTS = [
    ("RedisScriptTargetDown", "for: 30s", "for: <<targetDownFor>>"),
    ("RedisScriptTargetDown", "for at least 30 s.", "for at least <<targetDownForText>>."),
    ("RedisSlowlogBlind", "for: 2m", "for: <<settingFor>>"),
    ("RedisScriptTimeLimitUnsafe", "for: 2m", "for: <<settingFor>>"),
    ("RedisScriptTimeLimitUnsafe", "_seconds > 5", "_seconds > <<timeLimitSeconds>>"),
    ("RedisScriptTimeLimitUnsafe", "lua-time-limit 5000", "lua-time-limit <<timeLimitMilliseconds>>"),
    ("RedisScriptCacheGrowing", "[30m]) > 50", "[30m]) > <<cacheGrowth>>"),
    ("RedisScriptCacheGrowing", "_scripts > 500", "_scripts > <<cacheSize>>"),
    ("RedisScriptExporterStale", "_timestamp_seconds > 120", "_timestamp_seconds > <<staleSeconds>>"),
    ("RedisScriptExporterReloadFailed", "for: 5m", "for: <<exporterFor>>"),
    ("RedisScriptExporterDiscoveryDown", "for: 5m", "for: <<exporterFor>>"),
    ("RedisScriptExporterDiscoveryDown", "for at least 5 minutes", "for at least <<exporterForText>>"),
    ("RedisScriptExporterStateUnsaved", "for: 5m", "for: <<exporterFor>>"),
    ("RedisScriptCreeping", "until_warning < 7 * 86400", "until_warning < <<creepingDays>> * 86400"),
]


def fail(text):
    sys.exit(f"check-mixin: {text}")


def grouped(query):
    """Adds the cluster to lists of labels that identify a server."""
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        if "job" in labels.split(", ")[1:]:
            fail(f"job is not the first of ({labels}), so the label of the cluster has no place")
    return re.sub(r"\b(by|on) \(job\b", r"\1 (<<labels>>job", query)


def query(text):
    """Adds the selector to each metric of a query."""
    return grouped(METRIC.sub(lambda found: f"{found[1]}{{<<first>>" if found[2] else f"{found[1]}<<only>>", text))


def action(text):
    """Adds the selector and the cluster to a template action, in which queries are printf formats."""
    def formatted(found):
        metrics = METRIC.sub(lambda one: f"{one[1]}{{<<format>>" if one[2] else fail(f"no selector in a text: {text}"), found[1])
        return '"' + metrics.replace("job=%q", "<<clusterFormat>>job=%q") + '"'

    if "printf" not in text:
        return text
    # A format begins with the name of a metric or a label.
    text = re.sub(r'(?<=printf )"((?:[^"\\]|\\.)*)"', lambda found: formatted(found), text)
    return text.replace("$labels.job", "<<clusterArgument>>$labels.job") if "<<clusterFormat>>" in text else text


def rules(text):
    """Returns the template of the rules. Queries are in `expr` and in the actions of the annotations."""
    lines, block, alert, used = [], None, None, set()
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        key = re.match(r" *(?:- )?(\w+):", line)
        if block is not None and line.strip() and indent <= block[0]:
            block = None
        if block is None and key:
            alert = re.sub(r".*: ", "", line) if key[1] == "alert" else None if key[1] == "record" else alert
            if key[1] in ("expr", "summary", "description"):
                block = (indent, key[1])
        if not line.lstrip().startswith("#"):
            for index, (name, before, after) in enumerate(CONSTANTS):
                if name == alert and before in line:
                    line = line.replace(before, after)
                    used.add(index)
            if block and block[1] == "expr":
                head, rest = re.match(r"( *expr: )?(.*)", line, re.S).groups()
                line = (head or "") + query(rest)
            elif block:
                line = re.sub(r"\{\{.*?\}\}", lambda found: action(found[0]), line)
            line = re.sub(r"(runbook_url: ).*(#\w+)$", r"\1<<runbooks>>\2", line)
        lines.append(line)
    for index, (name, before, _) in enumerate(CONSTANTS):
        if index not in used:
            fail(f"the rule {name} has no longer the text '{before}': correct CONSTANTS in scripts/mixin/generate.py")
    return "\n".join(lines) + "\n"


def dashboard(text):
    """Returns the template of a dashboard. Queries are in `expr`, `query` and `definition`."""
    lines = []
    for line in text.splitlines():
        found = re.match(r'( *"(?:expr|query|definition)": ")(.*)$', line)
        if found:
            line = found[1] + query(found[2])
        line = re.sub(r"https://[^\"]*" + re.escape(RUNBOOKS), "<<runbooks>>", line)
        line = line.replace("var-job=", "<<clusterLink>>var-job=")
        line = re.sub(r'("renameByName": \{)$', r"\1<<clusterColumn>>", line)
        line = re.sub(r'^(  "title": ")', r"\1<<titlePrefix>>", line)
        line = re.sub(r'^(  "refresh": ").*(",)$', r"\1<<refresh>>\2", line)
        lines.append(line)
    text = "\n".join(lines) + "\n"
    for pattern, template in [
        (r'\n  "tags": \[\n[^\]]*\n  \]', '\n  "tags": [\n    <<tags>>\n  ]'),
        (r'\n      \{\n        "name": "job",', '\n<<clusterVariable>>      {\n        "name": "job",'),
    ]:
        text, count = re.subn(pattern, lambda _: template, text)
        if count != 1:
            fail(f"a dashboard has {count} times: {pattern}")
    return text


def templates():
    """Returns the templates by path."""
    files = {TEMPLATES / RULES.name: rules((REPOSITORY / RULES).read_text())}
    for path in sorted((REPOSITORY / DASHBOARDS).glob("*.json")):
        files[TEMPLATES / path.name] = dashboard(path.read_text())
    return files


if __name__ == "__main__":
    for path, text in templates().items():
        target = pathlib.Path(sys.argv[1]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
