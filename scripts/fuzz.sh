#!/usr/bin/env bash
# Fuzzes the parsers: runs each target in fuzz/, or the given ones, for FUZZ_SECONDS (default 60). Stable Rust is
# sufficient: the instrumentation is that of cargo-fuzz without a sanitizer, because the exporter has no unsafe code. Fails
# if a target fails.
#
#   scripts/fuzz.sh [TARGET…]
#
# New inputs are kept in fuzz/corpus-found/TARGET for the next run, and failing inputs in fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
if ! command -v c++ >/dev/null; then
    echo "fuzz: a C++ compiler is needed (Debian: g++)" >&2
    exit 1
fi

# Use the same versions of dependencies as the exporter.
cp Cargo.lock fuzz/Cargo.lock
flags=(--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4)
flags+=(-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table)
flags+=(-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0)
host=$(rustc -vV | sed -n 's/^host: //p')
build=${FUZZ_TARGET_DIR:-fuzz/target}
# With --target, build scripts and procedural macros are compiled without these flags.
RUSTFLAGS="${flags[*]}" cargo build --manifest-path fuzz/Cargo.toml --target-dir "$build" --target "$host" --release \
    "${targets[@]/#/--bin=}"

failed=()
printf '%-20s %8s %12s %8s  %s\n' target seconds executions coverage result
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus-found/$target" "fuzz/artifacts/$target"
    log=fuzz/artifacts/$target.log
    result=ok
    if ! "$build/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" \
        "fuzz/corpus-found/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
        result="FAILED, see $log"
        failed+=("$target")
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-20s %8s %12s %8s  %s\n' "$target" "$seconds" "${executions:-?}" "${coverage:-?}" "$result"
done
[ ${#failed[@]} -eq 0 ]
