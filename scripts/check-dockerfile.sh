#!/usr/bin/env bash
# Runs the instructions of the Dockerfile's builder stage without Docker, in an empty directory with only the files that
# they copy. Then starts the resulting program and runs its HEALTHCHECK command.
set -euo pipefail
cd "$(dirname "$0")/.."

stage=builder
revision=check-dockerfile
# Libraries that the final image contains.
allowed='^(linux-vdso\.so\.1|libgcc_s\.so\.1|libc\.so\.6|libm\.so\.6|/lib.*/ld-linux-.*|ld-linux-.*)$'

repository=$PWD
caches=${CARGO_TARGET_DIR:-$PWD/target}/check-dockerfile
folder=$(mktemp -d)
exporter=
trap '[ -z "$exporter" ] || kill "$exporter" 2>/dev/null || true; rm -rf "$folder"' EXIT

# A build in the image would not have this machine's settings.
unset CARGO_TARGET_DIR RUSTFLAGS
export REDIS_SCRIPT_EXPORTER_REVISION=

say() {
    echo "check-dockerfile: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

# Prints the instructions of the stage, one per line, without comments and with continued lines joined.
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

# in_folder PATH: prints the path on this machine that corresponds to a path in the image.
workdir=/
in_folder() {
    case $1 in
    /*) echo "$folder$1" ;;
    *) echo "$folder$workdir/$1" ;;
    esac
}

# run WORD...: runs a RUN instruction. A mounted cache is a persistent directory; for the registry, it is cargo's own.
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
    FROM) say "FROM $words: replaced by $(cargo --version) of this machine" ;;
    WORKDIR)
        workdir=$words
        mkdir -p "$folder$workdir"
        ;;
    COPY)
        read -ra paths <<<"$words"
        target=$(in_folder "${paths[-1]}")
        for source in "${paths[@]:0:${#paths[@]}-1}"; do
            # For a directory, Docker copies the contents.
            if [ -d "$repository/$source" ]; then
                mkdir -p "$target"
                cp -R "$repository/$source/." "$target"
            else
                mkdir -p "$(dirname "$target")"
                cp "$repository/$source" "$target"
            fi
        done
        ;;
    ARG) [[ $words == REDIS_SCRIPT_EXPORTER_REVISION=* ]] && export REDIS_SCRIPT_EXPORTER_REVISION=$revision ;;
    RUN)
        read -ra command <<<"$words"
        run "${command[@]}"
        ;;
    *) fail "unsupported instruction: $instruction $words" ;;
    esac
done < <(instructions)

# Files that the final stage copies; the last one is the program.
results=$(awk '$1 == "COPY" && /--from=builder/ { for (word = 3; word < NF; word++) print $word }' Dockerfile)
for result in $results; do
    [ -s "$(in_folder "$result")" ] || fail "the builder stage did not produce $result"
done
binary=$(in_folder "$result")
[ -x "$binary" ] || fail "$result is not executable"
grep -q '^=== rustls ' "$(in_folder THIRD-PARTY-LICENSES)" || fail "the licences of the crates are missing"

unknown=$(ldd "$binary" | awk '{ print $1 }' | grep -Ev "$allowed" || true)
[ -z "$unknown" ] || fail "the final image lacks libraries: $unknown"
"$binary" --version

# The process is healthy without a server; /metrics reports the target as unreachable.
"$binary" --redis.addr redis://127.0.0.1:1 --web.listen-address 127.0.0.1:0 2>"$folder/log" &
exporter=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*message=listening.*address="\{0,1\}\([0-9.:]*\).*/\1/p' "$folder/log" | head -1)
    [ -z "$address" ] || break
    sleep 0.1
done
[ -n "$address" ] || fail "the exporter does not listen: $(cat "$folder/log")"
"$binary" healthcheck --web.listen-address "$address" || fail "healthcheck reports a running exporter as not healthy"

exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
grep -F "revision=\"$revision\"" <&3 || fail "the build information does not have the revision of the build"

kill "$exporter"
wait "$exporter" || fail "the exporter did not exit with 0 on SIGTERM"
exporter=
if "$binary" healthcheck --web.listen-address "$address" 2>/dev/null; then
    fail "healthcheck reports an exporter that has ended as healthy"
fi
say "ok: $(du -h "$binary" | cut -f1) binary"
