#!/usr/bin/env bash
# Takes the screenshot of the status page for README.md: two Redis servers, one of them BUSY with a script.
#
# Requires redis-server, redis-cli, Node, Chromium and the browser driver of tests/page (installed by scripts/setup.sh).
# Writes docs/status-page.png. All programs run on free loopback ports and end with this script.
set -euo pipefail
cd "$(dirname "$0")/.."

picture=docs/status-page.png
max_bytes=100000
modules=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/page

fail() {
    echo "readme-picture: $*" >&2
    exit 1
}

PATH=$PATH:/usr/sbin:/sbin
browser=$(command -v chromium-headless-shell || command -v chromium || true)
for program in redis-server redis-cli node "${browser:-chromium}" curl python3; do
    command -v "$program" >/dev/null 2>&1 || fail "$program is not installed; run scripts/setup.sh"
done
[ -d "$modules/node_modules" ] || fail "the browser driver is not installed; run scripts/setup.sh"

"${CARGO:-cargo}" build --locked --quiet --bin redis-script-exporter
exporter=${CARGO_TARGET_DIR:-$PWD/target}/debug/redis-script-exporter

folder=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$folder"
}
trap stop EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for DESCRIPTION COMMAND...: repeats a command until it succeeds, for at most 30 s.
wait_for() {
    local description=$1
    shift
    for _ in $(seq 300); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    fail "no $description within 30 s: $(cat "$folder/log" 2>/dev/null)"
}

# start_server NAME PORT
start_server() {
    mkdir "$folder/$1"
    redis-server --bind 127.0.0.1 --port "$2" --dir "$folder/$1" --logfile "$folder/$1/redis.log" --save '' \
        --slowlog-log-slower-than 1000 >/dev/null &
    pids+=($!)
    wait_for "answer of the server $1" redis-cli -p "$2" PING
}

# Scripts that run for ARGV[1] milliseconds; the first line gives each a different SHA1.
mkdir -p "$folder/lua/carts" "$folder/lua/orders" "$folder/lua/reports"
for name in carts/recount orders/checkout reports/rebuild; do
    cat >"$folder/lua/$name.lua" <<LUA
-- $name
local start = redis.call('TIME')
repeat
  local now = redis.call('TIME')
until (now[1] - start[1]) * 1e3 + (now[2] - start[2]) / 1e3 >= tonumber(ARGV[1])
return 1
LUA
done

# call PORT CLIENT SCRIPT MILLISECONDS
call() {
    local sha1
    sha1=$(redis-cli -p "$1" SCRIPT LOAD "$(cat "$folder/lua/$3.lua")")
    printf 'CLIENT SETNAME %s\nEVALSHA %s 0 %s\n' "$2" "$sha1" "$4" | redis-cli -p "$1" >/dev/null
}

checkout=$(free_port)
start_server checkout "$checkout"
sessions=$(free_port)
start_server sessions "$sessions"
listen=$(free_port)
cat >"$folder/config.yml" <<YAML
targets:
  - { name: checkout, addr: "redis://127.0.0.1:$checkout", log_file: "$folder/checkout/redis.log" }
  - { name: sessions, addr: "redis://127.0.0.1:$sessions" }
YAML
# A busy machine must not cause a blockage, but a script of 1.4 s must.
"$exporter" --config.file "$folder/config.yml" --script.dir "$folder/lua" --web.listen-address "127.0.0.1:$listen" \
    --heartbeat.blocked-after=1s \
    2>"$folder/log" &
pids+=($!)
metric() {
    curl -sf "http://127.0.0.1:$listen/metrics" | grep -E "$1"
}
wait_for "answer of the exporter" curl -sf "http://127.0.0.1:$listen/-/ready"
for target in checkout sessions; do
    wait_for "reading of the slow log of $target" metric "slowlog_max_length\{target=\"$target\"\} [1-9]"
done

for milliseconds in 40 35 60 55 70; do
    call "$checkout" web-1 orders/checkout "$milliseconds"
    call "$sessions" web-2 orders/checkout "$milliseconds"
done
call "$checkout" billing-worker reports/rebuild 1400
wait_for "slow call" metric '^redis_script_slow_calls_total\{target="checkout",.*\} 1$'
call "$checkout" cart-worker carts/recount 120000 &
pids+=($!)
wait_for "name of the script that runs" metric '^redis_script_running_info\{target="checkout"'

node --input-type=module - "$modules" "$browser" "http://127.0.0.1:$listen/" "$picture" <<'JS'
import { createRequire } from 'node:module';
const [modules, executablePath, url, path] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/node_modules/index.js`)('playwright-core');
const args = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'];
const browser = await chromium.launch({ executablePath, args });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 800 }, deviceScaleFactor: 0.72, colorScheme: 'light' });
  await page.goto(url);
  await page.waitForSelector('.banner');
  await page.waitForSelector('#calls > *');
  // Down to the end of the incidents' section, to keep the file small.
  const height = await page.evaluate(() => {
    const section = document.querySelector('#incidents').closest('section') ?? document.querySelector('#incidents');
    return Math.ceil(section.getBoundingClientRect().bottom) + 12;
  });
  await page.screenshot({ path, clip: { x: 0, y: 0, width: 1000, height }, fullPage: true });
} finally {
  await browser.close();
}
JS
redis-cli -p "$checkout" SCRIPT KILL >/dev/null
bytes=$(wc -c <"$picture")
[ "$bytes" -le "$max_bytes" ] || fail "$picture has $bytes bytes; at most $max_bytes are allowed"
echo "$picture: $bytes bytes"
