#!/usr/bin/env bash
# Steps of a release. RELEASING.md describes them; .github/workflows/release.yml runs them.
#
#   scripts/release.sh version                print the version in Cargo.toml
#   scripts/release.sh repository             print the repository's address in Cargo.toml
#   scripts/release.sh check-version          require that the chart, the manifests and the CHANGELOG have the version in Cargo.toml
#   scripts/release.sh check-tag TAG          require the same of a tag, a date in the CHANGELOG, and digests of base images
#   scripts/release.sh build TARGET FOLDER    build a binary of a target of Rust, and package it
#   scripts/release.sh crate FOLDER           package the crate for crates.io, and build it from the package
#   scripts/release.sh chart FOLDER           package the chart
#   scripts/release.sh sbom FOLDER            list the crates in CycloneDX format (needs cargo-cyclonedx)
#   scripts/release.sh notes                  print the section of the CHANGELOG
#   scripts/release.sh checksums FOLDER       write SHA256SUMS
#   scripts/release.sh login                  log in to the registry of images and charts, with GITHUB_TOKEN
#   scripts/release.sh publish-github FOLDER  create the release on GitHub (needs gh)
#   scripts/release.sh publish-image FOLDER   push the image for amd64 and arm64 (needs docker)
#   scripts/release.sh publish-chart FOLDER   push the chart (needs helm)
#   scripts/release.sh publish-crate          publish on crates.io (needs CARGO_REGISTRY_TOKEN)
set -euo pipefail
cd "$(dirname "$0")/.."

name=redis-script-exporter
chart=deploy/helm/$name/Chart.yaml

fail() {
    echo "release: $*" >&2
    exit 1
}

# field KEY: prints the value of a key of [package].
field() {
    sed -n "/^\[package\]/,/^\[/ s/^$1 = \"\(.*\)\"$/\1/p" Cargo.toml
}

# absolute FOLDER: creates the directory and prints its absolute path.
absolute() {
    mkdir -p "$1"
    realpath "$1"
}

notes() {
    awk -v version="$(field version)" '
        /^## / { inside = (index($0, "## [" version "]") == 1); next }
        /^\[.*\]: / { inside = 0 }
        inside
    ' CHANGELOG.md
}

command=${1:-}
case $command in
version) field version ;;
repository) field repository ;;
check-version)
    version=$(field version)
    # Each file with a version: its path, and the line that contains it.
    while read -r file line; do
        grep -qxF "${line//_/ }" "$file" || fail "$file has another version than Cargo.toml; expected: ${line//_/ }"
    done <<FILES
$chart version:_$version
$chart appVersion:_$version
scripts/helm/sidecar/Chart.yaml ____version:_$version
deploy/kubernetes/base/kustomization.yaml ____newTag:_$version
deploy/kubernetes/sidecar/kustomization.yaml ____newTag:_$version
FILES
    [ -n "$(notes)" ] || fail "CHANGELOG.md has no section $version"
    ;;
check-tag)
    version=$(field version)
    [ "${2:?tag}" = "v$version" ] || fail "the tag is $2, but Cargo.toml has $version"
    scripts/release.sh check-version
    grep -qE "^## \[$version\] - [0-9]{4}-[0-9]{2}-[0-9]{2}\$" CHANGELOG.md ||
        fail "the section $version of CHANGELOG.md has no date"
    unpinned=$(grep -H '^FROM ' Dockerfile deploy/image/Dockerfile | grep -v '@sha256:' || true)
    [ -z "$unpinned" ] || fail "base images without digest, see RELEASING.md: $unpinned"
    ;;
build)
    target=${2:?target} folder=$(absolute "${3:?folder}")
    target_dir=${CARGO_TARGET_DIR:-$PWD/target}
    rustup target add "$target" >&2 || fail "the target $target cannot be installed"
    cargo build --locked --release --target "$target" --bin $name
    binary=$target_dir/$target/release/$name
    scripts/package.sh archive "$binary" "$target" "$folder"
    # A static binary runs on every distribution.
    if [[ $target == *-musl ]]; then
        scripts/package.sh deb "$binary" "$target" "$folder"
        scripts/package.sh rpm "$binary" "$target" "$folder"
    fi
    ;;
crate)
    folder=$(absolute "${2:?folder}")
    shift 2
    cargo package --locked "$@"
    cp "${CARGO_TARGET_DIR:-$PWD/target}/package/$name-$(field version).crate" "$folder"
    ;;
chart)
    folder=$(absolute "${2:?folder}")
    cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$cache/helm python3 scripts/helm/chart.py package "$folder" \
        2> >(grep -v 'found symbolic link in path' >&2)
    ;;
sbom)
    folder=$(absolute "${2:?folder}")
    cargo cyclonedx --version >/dev/null 2>&1 || cargo install --locked cargo-cyclonedx
    file=$name-$(field version).cdx
    cargo cyclonedx --format json --override-filename "$file"
    # It writes one file for each workspace member; tests are not released.
    rm -f "tests/support/$file.json"
    # Identifiers contain the build directory.
    sed "s|file://$PWD|file:///$name|g" "$file.json" >"$folder/$file.json"
    rm "$file.json"
    ;;
notes) notes ;;
checksums)
    cd "${2:?folder}"
    find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%f\n' | sort | xargs sha256sum >SHA256SUMS
    ;;
login)
    # The token is passed on standard input to keep it out of the process list.
    docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin <<<"$GITHUB_TOKEN"
    helm registry login ghcr.io --username "$GITHUB_ACTOR" --password-stdin <<<"$GITHUB_TOKEN"
    ;;
publish-github)
    notes >"${2:?folder}/../notes.md"
    gh release create "v$(field version)" --verify-tag --title "$(field version)" --notes-file "$2/../notes.md" "$2"/*
    ;;
publish-image)
    version=$(field version) context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    for pair in amd64:x86_64 arm64:aarch64; do
        mkdir "$context/${pair%:*}"
        tar -xzOf "${2:?folder}/$name-$version-${pair#*:}-unknown-linux-musl.tar.gz" \
            "$name-$version-${pair#*:}-unknown-linux-musl/$name" >"$context/${pair%:*}/$name"
        chmod 0755 "$context/${pair%:*}/$name"
    done
    cp LICENSE-APACHE LICENSE-MIT "$context"
    scripts/licenses.sh >"$context/THIRD-PARTY-LICENSES"
    repository=$(field repository)
    image=ghcr.io/${repository#https://github.com/}
    labels=()
    for label in "source=$repository" "version=$version" "revision=$(git rev-parse HEAD)" \
        "licenses=$(field license)" "title=$name" "description=$(field description)"; do
        labels+=(--label "org.opencontainers.image.$label")
    done
    docker buildx create --use >/dev/null
    docker buildx build --push --platform linux/amd64,linux/arm64 --provenance=mode=max --sbom=true \
        --file deploy/image/Dockerfile --tag "$image:$version" --tag "$image:latest" "${labels[@]}" "$context"
    ;;
publish-chart)
    repository=$(field repository)
    owner=${repository#https://github.com/}
    helm push "${2:?folder}/$name-$(field version).tgz" "oci://ghcr.io/${owner%%/*}/charts"
    ;;
publish-crate) cargo publish --locked ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
