#!/usr/bin/env bash
# Builds the release files that can be built on this machine, and tests each: installs the packages in a clean root, starts
# the command of their unit, scrapes it, and removes them. Prints the skipped steps at the end.
#
# The packages require root, debootstrap, dpkg-deb, rpmbuild and rpm; the static binary requires musl-gcc. Steps with
# missing programs are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$PATH:/usr/sbin:/sbin
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
name=redis-script-exporter
folder=$CARGO_TARGET_DIR/release-check
version=$(scripts/release.sh version)
machine=$(uname -m)
scratch=$(mktemp -d)
omitted=()
pids=()

# finish: ends the processes started by this script.
finish() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap finish EXIT

say() {
    echo "release-check: $*"
}

fail() {
    say "FAILED: $*" >&2
    exit 1
}

omit() {
    omitted+=("$*")
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# eventually COMMAND…: repeats a command until it succeeds, for up to 20 s.
eventually() {
    local end=$((SECONDS + 20))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# accepts PORT: succeeds if something listens on the port.
accepts() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# start_server: starts Redis on a free port, and sets server_port.
start_server() {
    server_port=$(free_port)
    redis-server --port "$server_port" --bind 127.0.0.1 --save '' --dir "$scratch" >/dev/null &
    pids+=($!)
    eventually accepts "$server_port" || fail "Redis does not start"
}

# target_is_up PORT: succeeds if the metrics report the target as up.
target_is_up() {
    curl -sf --max-time 2 "http://127.0.0.1:$1/metrics" 2>/dev/null |
        grep '^redis_script_target_state{.*state="ok".*} 1$' >/dev/null
}

# scrape COMMAND…: runs an exporter with the test server as its target, and waits until the target is up.
scrape() {
    local port exporter
    port=$(free_port)
    "$@" --redis.addr "redis://127.0.0.1:$server_port" --web.listen-address "127.0.0.1:$port" 2>"$scratch/log" &
    exporter=$!
    pids+=("$exporter")
    eventually target_is_up "$port" || fail "$1 does not monitor the server: $(tail -n 3 "$scratch/log")"
    kill "$exporter"
    wait "$exporter" || fail "$1 ends with status $?"
}

# run_unit ROOT: runs the command of the unit installed in a root, as a different user and with the environment of the unit.
run_unit() {
    local root=$1 unit=$1/usr/lib/systemd/system/$name.service state=/var/lib/$name command words
    command=$(sed -n 's/^ExecStart=//p' "$unit")
    read -ra words <<<"${command//%S//var/lib}"
    install -d -o 65534 -g 65534 "$root$state"
    local settings=()
    mapfile -t settings < <(grep -v '^#' "$root/etc/default/$name" | grep .)
    scrape env "${settings[@]}" chroot --userspec=65534:65534 "$root" "${words[@]}"
    [ -s "$root$state/state" ] || fail "the state file was not written"
    rm -r "${root:?}$state"
}

rm -rf "$folder"
mkdir -p "$folder"

say "version $version"
scripts/release.sh check-version
scripts/release.sh check-tag "v$version" 2>"$scratch/tag" || omit "tag: $(cat "$scratch/tag")"

say "crate"
dirty=()
[ -z "$(git status --porcelain)" ] || { dirty=(--allow-dirty); omit "the crate was packaged with changes that are not committed"; }
scripts/release.sh crate "$folder" "${dirty[@]}"
listed=$(tar -tzf "$folder/$name-$version.crate" | cut -d / -f 2- | grep -cvE '^(src|docs|dashboards|alerts)/')
[ "$listed" -le 12 ] || fail "the crate contains $listed files outside of src, docs, dashboards and alerts"

target=$machine-unknown-linux-musl
if have musl-gcc && rustup target add "$target" >/dev/null 2>&1; then
    say "binary and packages of $target"
    scripts/release.sh build "$target" "$folder"
else
    omit "static binary, deb and rpm: musl-gcc or the target $target cannot be installed"
    target=$machine-unknown-linux-gnu
    say "binary of $target"
    scripts/release.sh build "$target" "$folder"
fi

if have redis-server && have curl; then
    start_server
else
    fail "redis-server and curl are needed to test what was built"
fi

say "archive"
tar -xzf "$folder/$name-$version-$target.tar.gz" -C "$scratch"
binary=$scratch/$name-$version-$target/$name
"$binary" --version | grep -F " $version" >/dev/null || fail "the binary has another version"
if [[ $target == *-musl ]]; then
    ! ldd "$binary" >/dev/null 2>&1 || [[ $(ldd "$binary") == *"statically linked"* ]] || fail "the binary is not static"
fi
scrape "$binary"

if ls "$folder"/*.deb >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && have debootstrap; then
        say "clean root for the packages"
        debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$scratch/root" \
            ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$scratch/debootstrap.log" 2>&1 || true
    else
        omit "installing the packages: needs root and debootstrap"
    fi
    if [ -x "$scratch/root/usr/bin/dpkg" ]; then
        say "deb"
        cp "$folder"/*.deb "$scratch/root/package.deb"
        chroot "$scratch/root" dpkg --install /package.deb >/dev/null
        run_unit "$scratch/root"
        chroot "$scratch/root" dpkg --purge $name >/dev/null
        [ -z "$(find "$scratch/root" -path '*/proc' -prune -o -name "*$name*" -print)" ] || fail "dpkg --purge leaves files"
        if have rpm; then
            say "rpm"
            rpm --root "$scratch/root" --nodeps --install "$folder"/*.rpm 2>"$scratch/rpm.log" || fail "$(cat "$scratch/rpm.log")"
            run_unit "$scratch/root"
            rpm --root "$scratch/root" --nodeps --erase $name 2>"$scratch/rpm.log" || fail "$(cat "$scratch/rpm.log")"
            [ ! -e "$scratch/root/usr/bin/$name" ] || fail "rpm --erase leaves files"
        else
            omit "installing the rpm: rpm is not installed"
        fi
    elif [ -e "$scratch/debootstrap.log" ]; then
        omit "installing the packages: debootstrap failed: $(tail -n 1 "$scratch/debootstrap.log")"
    fi
fi

say "chart"
scripts/check-helm.sh
scripts/release.sh chart "$folder" >/dev/null || omit "chart: Helm is not installed"

if cargo cyclonedx --version >/dev/null 2>&1; then
    scripts/release.sh sbom "$folder"
else
    omit "SBOM: cargo-cyclonedx is not installed"
fi
omit "image: scripts/release.sh publish-image builds and pushes it; make check-dockerfile runs the build from source without Docker"
omit "other architectures than $machine, provenance and publishing: .github/workflows/release.yml does these"
scripts/release.sh checksums "$folder"
(cd "$folder" && sha256sum --quiet --check SHA256SUMS)

say "built and tested in $folder:"
(cd "$folder" && ls -l | awk 'NR > 1 { print "  " $5 "\t" $9 }')
for one in "${omitted[@]}"; do say "NOT DONE: $one"; done
say "passed"
