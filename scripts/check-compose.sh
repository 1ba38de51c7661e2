#!/usr/bin/env bash
# Checks deploy/compose/ without Docker: validates the Compose file against its schema, requires every mounted file to
# exist, and checks every configuration with its own program.
#
# A missing tool is reported; with CI=true it is an error. The schema, pinned by hash, is stored in the cache directory,
# like the servers installed by scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian installs servers in directories that are not in an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin
compose=deploy/compose/compose.yml

skip() {
    echo "check-compose: SKIPPED: $*" >&2
    [ "${CI:-}" != true ] || exit 1
}

fail() {
    echo "check-compose: $*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT

# The mounted files of each service are copied to a separate directory, with the paths that the service uses.
cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/compose-schema
if ! cmp -s scripts/compose-schema.txt "$cache/installed.txt"; then
    rm -rf "$cache"
    mkdir -p "$cache"
    if python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
        --only-binary=:all: --target "$cache" --requirement scripts/compose-schema.txt >&2; then
        cp scripts/compose-schema.txt "$cache/installed.txt"
    fi
fi
if [ ! -e "$cache/installed.txt" ]; then
    skip "the schema of Compose files could not be downloaded; deploy/compose was not checked"
    exit
fi
PYTHONPATH=$cache python3 - "$compose" "$cache/compose/config/compose_spec.json" "$scratch" <<'PYTHON'
import json, pathlib, re, shutil, sys

import fastjsonschema
from ruamel.yaml import YAML

compose, schema, scratch = map(pathlib.Path, sys.argv[1:])
load = YAML(typ="safe", pure=True).load


def fail(text):
    sys.exit(f"check-compose: {text}")


document = load(compose)
# The schema uses format names that only Compose defines.
formats = {name: lambda _: True for name in re.findall(r'"format": *"(\w+)"', schema.read_text())}
try:
    fastjsonschema.compile(json.loads(schema.read_text()), formats=formats)(document)
except fastjsonschema.JsonSchemaException as error:
    fail(f"{compose}: {error}")

services = document["services"]
known = pathlib.Path("tests/golden/help.txt").read_text()
for name, service in services.items():
    if "build" in service and not (compose.parent / service["build"]["context"] / "Dockerfile").is_file():
        fail(f"{name} is built from a folder without a Dockerfile")
    for other in service.get("depends_on", {}):
        if "healthcheck" not in services[other]:
            fail(f"{name} waits for the health of {other}, which has no health check")
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            fail(f"{name} listens on all addresses: {port}")
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        if not source.startswith("."):
            if source not in document["volumes"]:
                fail(f"{name} mounts {source}, which is not a volume")
            continue
        file = compose.parent / source
        if not file.exists():
            fail(f"{name} mounts {source}, which does not exist")
        place = scratch / name / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if file.is_dir() else shutil.copy)(file, place)
    if name == "exporter":
        for flag in service["command"]:
            if not re.search(rf"{re.escape(flag.split('=')[0])}\b", known):
                fail(f"the exporter has no flag {flag}")

# Grafana has no tool that checks provisioning files.
grafana = scratch / "grafana"
sources = load(next((grafana / "etc/grafana/provisioning/datasources").iterdir()))
for source in sources["datasources"]:
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    if host not in services or not any(published.endswith(f":{port}") for published in services[host]["ports"]):
        fail(f"the data source {source['name']} is not a service: {source['url']}")
for provider in load(next((grafana / "etc/grafana/provisioning/dashboards").iterdir()))["providers"]:
    path = grafana / provider["options"]["path"].lstrip("/")
    # Grafana loads every JSON file in the directory as a dashboard.
    for file in path.rglob("*.json"):
        if json.loads(file.read_text()).get("uid") != file.stem:
            fail(f"Grafana would read {file.name} as a dashboard")
home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
if not (grafana / home.lstrip("/")).is_file():
    fail(f"Grafana's home dashboard does not exist: {home}")

# Addresses in the Prometheus configuration must be names in the network.
prometheus = load(scratch / "prometheus/etc/prometheus/prometheus.yml")
lists = prometheus["scrape_configs"] + prometheus["alerting"]["alertmanagers"]
for address in (address for one in lists for static in one["static_configs"] for address in static["targets"]):
    host, port = address.split(":")
    if host not in services or not any(published.endswith(f":{port}") for published in services[host]["ports"]):
        fail(f"Prometheus connects to {address}, which is not a service")
print("deploy/compose: valid, and every mounted file exists")
PYTHON

if have docker && docker compose version >/dev/null 2>&1; then
    docker compose -f "$compose" config --quiet
fi

if have promtool; then
    promtool check config "$scratch/prometheus/etc/prometheus/prometheus.yml"
else
    skip "promtool is not installed; run scripts/setup.sh"
fi

if have amtool; then
    amtool check-config "$scratch/alertmanager/etc/alertmanager/alertmanager.yml"
else
    skip "amtool is not installed; run scripts/setup.sh"
fi

if have redis-server && have redis-cli; then
    mkdir "$scratch/data"
    sed "s#/data#$scratch/data#" "$scratch/redis/etc/redis/redis.conf" >"$scratch/redis.conf"
    redis-server "$scratch/redis.conf" --port 0 --unixsocket "$scratch/socket" >"$scratch/output" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        [ ! -S "$scratch/socket" ] && kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    export REDISCLI_AUTH
    REDISCLI_AUTH=$(cat "$scratch/exporter/etc/redis-script-exporter/password")
    answer=$(redis-cli -s "$scratch/socket" --user exporter PING 2>&1) || true
    [ "$answer" = PONG ] ||
        fail "Redis rejects the exporter's password: $answer $(cat "$scratch/output")"
    [ -s "$scratch/data/redis.log" ] || fail "Redis does not write the log file that the exporter reads"
    echo "deploy/compose/redis.conf: Redis starts, and accepts the exporter's user"
else
    skip "redis-server and redis-cli are not installed; run scripts/setup.sh"
fi
