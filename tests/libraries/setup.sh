#!/usr/bin/env bash
# Installs the libraries of run.mjs and run.py into the cache of scripts/setup.sh. Those for run.rb and run.php are the
# Debian packages ruby-sidekiq, php-symfony-lock and php-redis.
set -euo pipefail
cd "$(dirname "$0")"

cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/libraries

if command -v npm >/dev/null && ! cmp -s package-lock.json "$cache/installed.json"; then
    mkdir -p "$cache"
    cp package.json package-lock.json "$cache"
    npm ci --prefix "$cache" --silent --ignore-scripts --legacy-peer-deps --no-audit --no-fund >&2
    cp package-lock.json "$cache/installed.json"
fi
if python3 -m pip --version >/dev/null 2>&1 && ! cmp -s requirements.txt "$cache/python/installed.txt"; then
    rm -rf "$cache/python"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-input --no-deps \
        --target "$cache/python" --requirement requirements.txt >&2
    cp requirements.txt "$cache/python/installed.txt"
fi
