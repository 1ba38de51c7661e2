"""Generates files from the chart, renders it in many combinations, and packages it. scripts/check-helm.sh runs it.

    chart.py generate FOLDER   write the generated files below FOLDER, with their paths in the repository
    chart.py render FOLDER     render every combination into FOLDER, and check what must be rejected
    chart.py package FOLDER    write the chart's archive
"""

import json
import pathlib
import re
import shutil
import sys
import tempfile

import helm_python as helm

REPOSITORY = pathlib.Path(__file__).parents[2]
CHART = pathlib.Path("deploy/helm/redis-script-exporter")
SIDECAR = pathlib.Path("scripts/helm/sidecar")
NAME = "redis-script-exporter"

# Values whose keys are defined by Kubernetes or the exporter, not by this chart.
OPEN = {"config", "podSecurityContext", "securityContext", "resources", "dashboards.labels"}
ENUMS = {
    "mode": ["deployment", "sidecar"],
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "log.level": ["error", "warn", "info", "debug", "trace"],
    "log.format": ["logfmt", "json"],
    "guard.mode": ["dry-run", "kill"],
    "guard.unknown": ["leave", "kill"],
    "service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
}
PATTERNS = {
    "image.digest": "^(sha256:[0-9a-f]{64})?$",
    "guard.killAfter": "^([0-9]+(ms|s|m|h))*$",
    "guard.per": "^([0-9]+(ms|s|m|h))+$",
    "alertmanager.resendDelay": "^([0-9]+(ms|s|m|h))+$",
    "web.externalUrl": "^(https?://[^?#]+)?$",
    "interval": "^([0-9]+(ms|s|m|h))+$",
    "scrapeTimeout": "^([0-9]+(ms|s|m|h))+$",
}

EVERYTHING = {
    "serviceMonitor": {"enabled": True},
    "podMonitor": {"enabled": True},
    "scrapeConfig": {"enabled": True},
    "probe": {"enabled": True, "targets": ["redis:6379"]},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
}
TLS = {"ca": {"configMap": {"name": "ca", "key": "ca.crt"}}, "serverName": "exporter"}
LOGIN = {"username": {"name": "login", "key": "user"}, "password": {"name": "login", "key": "password"}}
MONITOR = {"enabled": True, "labels": {"release": "prometheus"}, "interval": "5s", "scrapeTimeout": "5s"}
SECURED = {**MONITOR, "tlsConfig": TLS, "basicAuth": LOGIN}
RELABELED = {
    **SECURED,
    "relabelings": [{"targetLabel": "cluster", "replacement": "eu"}],
    "metricRelabelings": [{"sourceLabels": ["script"], "regex": "other", "action": "drop"}],
}

GUARD = {
    "killAfter": "10s", "mode": "kill", "scriptsOnly": ["jobs/*", "a: b"], "scriptsNever": ["reindex"], "unknown": "kill",
    "functions": False, "maxKills": 5, "per": "1h", "user": "guard", "existingSecret": "guard"}
ALERTMANAGER = {
    "urls": ["http://alertmanager-0:9093", "http://alertmanager-1:9093"], "labels": ["job=redis", "instance="],
    "resendDelay": "5s", "existingSecret": "alertmanager"}

# Flags, volumes and ports that the documents of a combination must contain.
EXPECTED = {
    "guard-dry-run": ["--guard.kill-after=10s", "--guard.mode=dry-run", "--guard.max-kills=3", "--guard.per=10m"],
    "guard-and-alertmanager": [
        "--guard.mode=kill", "--guard.scripts-only=jobs/*", "--guard.scripts-only=a: b", "--guard.scripts-never=reindex",
        "--guard.unknown=kill", "--guard.functions=false", "--guard.max-kills=5", "--guard.per=1h", "--guard.user=guard",
        "--guard.password-file=/etc/redis-script-exporter/guard/password", "--alertmanager.url=http://alertmanager-0:9093",
        "--alertmanager.url=http://alertmanager-1:9093", "--alertmanager.label=job=redis", "--alertmanager.label=instance=",
        "--alertmanager.config.file=/etc/redis-script-exporter/alertmanager/alertmanager.yml", "--alertmanager.resend-delay=5s",
        "secretName: guard", "secretName: alertmanager", "mountPath: /etc/redis-script-exporter/guard",
        "mountPath: /etc/redis-script-exporter/alertmanager", "port: 9093"],
    "alertmanager-url": ["--alertmanager.url=http://alertmanager:9093", "port: 9094"],
    "external-url": ["--web.external-url=https://scripts.example/redis/"],
    "default": [],
}
# Parts of flags that only these combinations may contain.
OPTIONAL = ("--guard.", "--alertmanager.", "port: 9093")

# Values of each combination.
COMBINATIONS = {
    "default": {},
    "external-url": {"web": {"externalUrl": "https://scripts.example/redis/"}},
    "everything": EVERYTHING,
    "many-targets": {
        "config": {
            "targets": [
                {"name": "checkout", "addr": "rediss://checkout:6379", "user": "exporter",
                 "password_file": "/etc/redis-script-exporter/secrets/checkout",
                 "tls": {"ca_file": "/etc/redis-script-exporter/tls/ca.crt"}},
                {"name": "carts", "addr": "redis://carts:6379", "discover": "cluster"},
            ],
            "modules": {"default": {"allow": ["10.0.0.0/8"]}},
        },
        "existingSecret": "passwords",
        "existingTlsSecret": "redis-tls",
    },
    "existing-objects": {
        "existingConfigMap": "own", "existingScriptsConfigMap": "scripts", "existingSecret": "passwords",
        "state": {"existingClaim": "own"}, "serviceAccount": {"create": False, "name": "own"},
    },
    "default-service-account": {"serviceAccount": {"create": False}},
    "without-volume": {"state": {"persistent": False}},
    "storage-class": {"state": {"storageClass": "fast", "size": "1Gi"}},
    "secured-port": {
        **EVERYTHING, "web": {"existingSecret": "web", "tls": True, "enableLifecycle": True},
        "serviceMonitor": RELABELED, "podMonitor": RELABELED, "scrapeConfig": SECURED,
        "probe": {**SECURED, "targets": ["a:6379", "b:6379"], "module": "other"},
    },
    "password-without-tls": {"web": {"existingSecret": "web"}, "serviceMonitor": {"enabled": True, "basicAuth": LOGIN}},
    "shown-data": {"web": {"showKeys": True, "showSource": True, "hideClients": True}, "log": {"level": "debug", "format": "logfmt"}},
    "image": {
        "image": {"repository": "registry.example/exporter", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "guard-dry-run": {"guard": {"killAfter": "10s"}},
    "guard-and-alertmanager": {
        "guard": GUARD, "alertmanager": ALERTMANAGER, "networkPolicy": {"enabled": True}},
    "alertmanager-url": {
        "alertmanager": {"urls": ["http://alertmanager:9093"]},
        "networkPolicy": {"enabled": True, "alertmanagerTo": [], "alertmanagerPorts": [9093, 9094]}},
    "image-tag": {"image": {"tag": "0.2.0"}},
    "names": {"fullnameOverride": "scripts", "nameOverride": "lua", "commonLabels": {"team": "data"}, **EVERYTHING},
    "scheduling": {
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "redis", "operator": "Exists"}],
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "redis"}}}}]}},
        "priorityClassName": "high", "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
        "service": {"type": "NodePort", "port": 80, "annotations": {"e": "f"}},
        "serviceAccount": {"annotations": {"g": "h"}}, "terminationGracePeriodSeconds": 30,
    },
    "extras": {
        "extraArgs": ["--slow.warning=500ms"],
        "extraEnv": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    },
    "network": {"networkPolicy": {
        "enabled": True, "ingressFrom": [], "redisTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "redisPorts": [6379, 26379],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}},
    "rules": {"prometheusRule": {
        "enabled": True, "labels": {"release": "prometheus"}, "disabled": ["RedisSlowScript"],
        "additionalAlertLabels": {"team": "data"}}},
    "dashboards": {"dashboards": {
        "enabled": True, "namespace": "grafana", "labels": {"grafana_dashboard": "yes"}, "annotations": {"grafana_folder": "Redis"}}},
    "sidecar": {"mode": "sidecar"},
    "sidecar-monitored": {**EVERYTHING, "mode": "sidecar", "sidecar": {"podLabels": {"app": "redis"}}},
}

# Values that must be rejected, with a part of the message.
REJECTED = [
    ({"unknown": 1}, "unknown"),
    ({"serviceMonitor": {"enable": True}}, "enable"),
    ({"mode": "daemonset"}, "mode"),
    ({"log": {"level": "loud"}}, "level"),
    ({"serviceMonitor": {"enabled": True, "interval": "often"}}, "interval"),
    ({"service": {"port": "http"}}, "port"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"web": {"externalUrl": "scripts.example"}}, "externalUrl"),
    ({"probe": {"enabled": True}}, "probe.targets"),
    ({"guard": {"killAfter": "10"}}, "killAfter"),
    ({"guard": {"killAfter": "10s", "mode": "on"}}, "mode"),
    ({"guard": {"mode": "kill"}}, "guard.killAfter"),
    ({"guard": {"killAfter": "10s", "user": "guard"}}, "guard.existingSecret"),
    ({"alertmanager": {"labels": ["job=redis"]}}, "alertmanager.urls"),
    ({"mode": "sidecar", "podMonitor": {"enabled": True}}, "sidecar.podLabels"),
]


def fail(text):
    sys.exit(f"check-helm: {text}")


def value_keys(text, values):
    """Yields path and description of each key in values.yaml, except keys inside open maps and lists."""
    path, comment = [], []
    for line in text.splitlines():
        if re.match(r" *#", line):
            comment.append(line.strip().lstrip("# "))
            continue
        key = re.match(r"( *)([A-Za-z]\w*):", line)
        if key:
            depth = len(key[1]) // 2
            path = [*path[:depth], key[2]]
            above = [".".join(path[:end]) for end in range(1, len(path))]
            if all(is_section(one, default_of(values, one)) for one in above):
                yield ".".join(path), " ".join(comment)
        comment = []


def default_of(values, path):
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def is_section(path, value):
    return isinstance(value, dict) and bool(value) and path not in OPEN


def schema_of(path, value, descriptions):
    """Returns the JSON schema of a value, derived from its default."""
    schema = {}
    if descriptions.get(path):
        schema["description"] = descriptions[path].replace("`", "")
    if is_section(path, value):
        below = {key: schema_of(f"{path}.{key}".lstrip("."), one, descriptions) for key, one in value.items()}
        if not path:
            # Values that Helm adds for a dependency.
            below["global"] = {"type": "object"}
        return {**schema, "type": "object", "additionalProperties": False, "properties": below}
    last = path.rsplit(".", 1)[-1]
    types = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    schema["type"] = types[int if isinstance(value, float) and value.is_integer() else type(value)]
    if path in ENUMS:
        schema["enum"] = ENUMS[path]
    pattern = PATTERNS.get(path, PATTERNS.get(last))
    if pattern:
        schema["pattern"] = pattern
    if last == "port":
        schema.update(minimum=1, maximum=65535)
    if path == "podDisruptionBudget.maxUnavailable":
        schema["type"] = ["integer", "string"]
    return schema


def schema(values, descriptions):
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema_of("", values, descriptions)}


def table(values, descriptions):
    rows = ["| value | default | description |", "| --- | --- | --- |"]
    for path, description in descriptions.items():
        value = default_of(values, path)
        if is_section(path, value):
            continue
        if not description:
            fail(f"values.yaml: {path} has no comment")
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        text = json.dumps(value, separators=(", ", ": ")).replace("|", "\\|")
        rows.append(f"| `{path}` | `{text}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def documents(chart, values, namespace="redis-monitoring"):
    """Renders the chart; returns manifests by the names of their templates."""
    rendered = chart.render(values, name=NAME, namespace=namespace)
    return {path.split("/templates/")[-1]: text.strip() + "\n"
            for path, text in sorted(rendered.items()) if text.strip() and path.endswith(".yaml")}


def plain(text):
    """Returns a manifest without Helm's labels."""
    lines = text.splitlines(keepends=True)
    omitted = ("helm.sh/chart:", "app.kubernetes.io/managed-by:", "app.kubernetes.io/version:")
    return "".join(line for line in lines if not line.strip().startswith(omitted))


GENERATED = "# Generated from deploy/helm/ by `scripts/check-helm.sh --write`.\n"


def sidecar_chart():
    """Loads a server's chart that has this chart as a dependency."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch, "redis")
        shutil.copytree(REPOSITORY / SIDECAR, copy)
        shutil.copytree(REPOSITORY / CHART, copy / "charts" / NAME)
        return helm.Chart.load(copy)


def generated():
    """Yields path and text of each generated file. The schema comes first, because the chart is loaded with the schema in its directory."""
    text = (REPOSITORY / CHART / "values.yaml").read_text()
    values = helm.values_from_yaml(text)
    descriptions = dict(value_keys(text, values))
    yield CHART / "values.schema.json", json.dumps(schema(values, descriptions), indent=2) + "\n"

    readme = (REPOSITORY / CHART / "README.md").read_text()
    head, rest = readme.split("<!-- values -->\n", 1)
    tail = rest.split("<!-- end of values -->\n", 1)[1]
    yield CHART / "README.md", f"{head}<!-- values -->\n{table(values, descriptions)}<!-- end of values -->\n{tail}"

    chart = helm.Chart.load(REPOSITORY / CHART)
    folder = pathlib.Path("deploy/kubernetes")
    base = documents(chart, {
        "existingConfigMap": NAME, "existingSecret": NAME, "networkPolicy": {"enabled": True},
        "serviceAccount": {"create": False}})
    base = [base[name] for name in ("deployment.yaml", "state.yaml", "service.yaml", "networkpolicy.yaml")]
    yield folder / "base/exporter.yaml", GENERATED + "---\n".join(plain(one) for one in base)
    operator = documents(chart, {
        "prometheusRule": {"enabled": True}, "serviceMonitor": {"enabled": True}, "scrapeConfig": {"enabled": True},
        "probe": {"enabled": True, "targets": [
            "checkout-redis.shop.svc.cluster.local:6379", "sessions-redis.shop.svc.cluster.local:6379"]}})
    for name in ("prometheusrule.yaml", "servicemonitor.yaml", "scrapeconfig.yaml", "probe.yaml"):
        yield folder / "operator" / name, GENERATED + plain(operator[name])
    statefulset = documents(sidecar_chart(), {}, "default")["statefulset.yaml"]
    yield folder / "sidecar/statefulset.yaml", GENERATED + plain(statefulset)


def generate(folder):
    for path, text in generated():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def render(folder):
    chart = helm.Chart.load(REPOSITORY / CHART)
    version = chart.metadata()["version"] if callable(chart.metadata) else chart.metadata["version"]
    cargo = re.search(r'^version = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.M)[1]
    if version != cargo:
        fail(f"Chart.yaml has the version {version}, Cargo.toml {cargo}")
    kinds = set()
    for name, values in COMBINATIONS.items():
        report = helm.lint(REPOSITORY / CHART, values, strict=True, namespace="redis-monitoring")
        if report["errors"] or [message for message in report["messages"] if message["severity"] > 1]:
            fail(f"{name}: lint: {report}")
        target = folder / name
        target.mkdir(parents=True)
        whole = "".join(documents(chart, values).values())
        lines = {re.sub(r"^- ", "", line.strip()).replace('"', "") for line in whole.splitlines()}
        missing = [text for text in EXPECTED.get(name, []) if text not in lines]
        if missing:
            fail(f"{name} has no {missing}")
        if name not in EXPECTED or not EXPECTED[name]:
            surplus = [line for line in lines if line.startswith(OPTIONAL)]
            if surplus:
                fail(f"{name} has {surplus}")
        for template, text in documents(chart, values).items():
            (target / template.replace("/", "-")).write_text(text)
            document = helm.values_from_yaml(text)
            kinds.add(document["kind"])
            if document["kind"] == "PrometheusRule":
                # JSON is valid YAML, so promtool can read it.
                (target / "rules.json").write_text(json.dumps({"groups": document["spec"]["groups"]}))
                check_rules(name, values.get("prometheusRule", {}), document)
    sidecar = folder / "sidecar-in-own-chart"
    sidecar.mkdir()
    for template, text in documents(sidecar_chart(), {}, "default").items():
        (sidecar / template).write_text(text)
    templates = {path.stem for path in (REPOSITORY / CHART / "templates").rglob("*.yaml")}
    if len(kinds) < len(templates) - 1:
        fail(f"{len(templates)} templates, but only {sorted(kinds)} were rendered")
    for values, message in REJECTED:
        try:
            chart.validate_schema(values)
            chart.render(values, name=NAME, namespace="redis-monitoring")
        except helm.HelmError as error:
            if message not in str(error):
                fail(f"{values} is rejected without naming {message}: {error}")
        else:
            fail(f"{values} is accepted")
    print(f"check-helm: {len(COMBINATIONS) + 1} combinations rendered and linted, {len(REJECTED)} invalid ones rejected")


def check_rules(name, values, document):
    """Checks that the rules of the resource are the shipped ones, without disabled rules and with the added labels."""
    shipped = helm.values_from_yaml((REPOSITORY / "alerts/redis-script.rules.yml").read_text())
    expected = []
    for group in shipped["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") in values.get("disabled", []):
                continue
            if "alert" in rule:
                rule["labels"] = {**values.get("additionalAlertLabels", {}), **rule.get("labels", {})}
            expected.append((group["name"], group.get("interval"), rule))
    groups = document["spec"]["groups"]
    actual = [(group["name"], group.get("interval"), rule) for group in groups for rule in group["rules"]]
    if actual != expected:
        fail(f"{name}: the rules differ from alerts/redis-script.rules.yml")


def package(folder):
    print(helm.package(REPOSITORY / CHART, destination=folder))


if __name__ == "__main__":
    {"generate": generate, "render": render, "package": package}[sys.argv[1]](pathlib.Path(sys.argv[2]))
