#!/usr/bin/env bash
# Does here what `docker build` would do in the Dockerfile's builder stage: runs its lines in their order, in a clean
# folder that holds just what they copy. Then starts the result and asks it how it is, as its HEALTHCHECK would.
set -euo pipefail
cd "$(dirname "$0")/.."

stage=builder
revision=check-dockerfile
# Libraries that the final image has.
allowed='^(linux-vdso\.so\.1|libgcc_s\.so\.1|libc\.so\.6|libm\.so\.6|/lib.*/ld-linux-.*|ld-linux-.*)$'

repository=$PWD
caches=${CARGO_TARGET_DIR:-$PWD/target}/check-dockerfile
folder=$(mktemp -d)
exporter=
trap '[ -z "$exporter" ] || kill "$exporter" 2>/dev/null || true; rm -rf "$folder"' EXIT

# A build in the image sees none of this machine's settings.
unset CARGO_TARGET_DIR RUSTFLAGS
export REDIS_SCRIPT_EXPORTER_REVISION=

say() {
    echo "check-dockerfile: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

# The stage's instructions, one on a line: comments left out, continued lines joined.
instructions() {
    awk -v stage="$stage" '
        /^[ \t]*(#|$)/ { next }
        { line = line $0 }
        /\\$/ { sub(/\\$/, " ", line); next }
        { $0 = line; line = "" }
        $1 == "FROM" { inside = ($3 == "AS" && $4 == stage) }
        inside { $1 = $1; print }
    ' Dockerfile
}

# in_folder PATH: where a path of the image is here.
workdir=/
in_folder() {
    case $1 in
    /*) echo "$folder$1" ;;
    *) echo "$folder$workdir/$1" ;;
    esac
}

# run WORD...: a RUN line. A cache that it mounts is a folder that is kept; the registry's is cargo's own.
run() {
    local target
    while [[ $1 == --mount=* ]]; do
        target=${1##*target=}
        if [[ $target == "$workdir"/* ]]; then
            mkdir -p "$caches"
            ln -sfn "$caches" "$(in_folder "$target")"
        fi
        shift
    done
    say "RUN $*"
    (cd "$folder$workdir" && sh -ec "$*")
}

while read -r instruction words; do
    case $instruction in
    FROM) say "FROM $words: taken as this machine's $(cargo --version)" ;;
    WORKDIR)
        workdir=$words
        mkdir -p "$folder$workdir"
        ;;
    COPY)
        read -ra paths <<<"$words"
        target=$(in_folder "${paths[-1]}")
        for source in "${paths[@]:0:${#paths[@]}-1}"; do
            # Docker copies what is in a folder, not the folder itself.
            if [ -d "$repository/$source" ]; then
                mkdir -p "$target"
                cp -R "$repository/$source/." "$target"
            else
                cp "$repository/$source" "$target"
            fi
        done
        ;;
    ARG) [[ $words == REDIS_SCRIPT_EXPORTER_REVISION=* ]] && export REDIS_SCRIPT_EXPORTER_REVISION=$revision ;;
    RUN)
        read -ra command <<<"$words"
        run "${command[@]}"
        ;;
    *) fail "don't know how to do: $instruction $words" ;;
    esac
done < <(instructions)

# What the final stage takes is what is looked at.
result=$(awk '$1 == "COPY" && /--from=builder/ { print $(NF - 1) }' Dockerfile)
binary=$(in_folder "$result")
[ -x "$binary" ] || fail "the builder stage has left no $result"

unknown=$(ldd "$binary" | awk '{ print $1 }' | grep -Ev "$allowed" || true)
[ -z "$unknown" ] || fail "the final image lacks libraries: $unknown"
"$binary" --version

# No server is needed for the process to be healthy: it says on /metrics that it has none.
"$binary" --redis.addr redis://127.0.0.1:1 --web.listen-address 127.0.0.1:0 2>"$folder/log" &
exporter=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*message=listening.*address="\{0,1\}\([0-9.:]*\).*/\1/p' "$folder/log" | head -1)
    [ -z "$address" ] || break
    sleep 0.1
done
[ -n "$address" ] || fail "the exporter does not listen: $(cat "$folder/log")"
"$binary" healthcheck --web.listen-address "$address" || fail "healthcheck says that a running exporter is not healthy"

exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
grep -F "revision=\"$revision\"" <&3 || fail "the revision given to the build is not in the build information"

kill "$exporter"
wait "$exporter" || fail "the exporter did not end well on SIGTERM"
exporter=
if "$binary" healthcheck --web.listen-address "$address" 2>/dev/null; then
    fail "healthcheck says that an exporter that has ended is healthy"
fi
say "ok: $(du -h "$binary" | cut -f1) binary"
