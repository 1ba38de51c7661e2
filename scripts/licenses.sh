#!/usr/bin/env bash
# Prints the licences of all crates in the exporter, with their texts. Requires the sources of the crates, which a build
# downloads.
set -euo pipefail
cd "$(dirname "$0")/.."

registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
echo "Licences of the crates in redis-script-exporter."
cargo tree --locked --prefix none --edges normal --format '{p}|{l}' | sed 's/ (\*)$//' | sort -u |
    while IFS='|' read -r package license; do
        read -r name version _ <<<"$package"
        [ "$name" != redis-script-exporter ] || continue
        printf '\n=== %s %s: %s\n' "$name" "${version#v}" "$license"
        folder=$(find "$registry" -mindepth 2 -maxdepth 2 -name "$name-${version#v}" | head -n 1)
        files=$(find "${folder:?the sources of $name are missing: build first}" -maxdepth 1 -type f \
            \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'unlicense*' \) | sort)
        [ -n "$files" ] || printf '\nThe crate contains no text; see https://spdx.org/licenses/.\n'
        while IFS= read -r file; do
            [ -n "$file" ] || continue
            printf '\n--- %s\n\n' "${file##*/}"
            cat "$file"
        done <<<"$files"
    done
