#!/usr/bin/env bash
# Draws the dashboards with the results of their queries from a real Prometheus, in each situation of the artificial history
# (scripts/dashboards/history.mjs). Writes pages to target/dashboards, with screenshots if Chromium is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-$PWD/target}/dashboards
rm -rf "$folder"
node scripts/dashboards/answers.mjs --draw "$folder" dashboards/*.json

browser=$(command -v chromium-headless-shell || command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "Chromium is not installed: open the pages in a browser" >&2
else
    profile=$(mktemp -d)
    trap 'rm -rf "$profile"' EXIT
    for page in "$folder"/*.html; do
        height=3220
        [[ $page == *detail* ]] && height=1380
        "$browser" --headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync \
            --disable-component-update --no-first-run --hide-scrollbars --user-data-dir="$profile" \
            --window-size="1600,$height" --screenshot="${page%.html}.png" "file://$page" >/dev/null 2>&1
    done
fi
ls "$folder"/*
