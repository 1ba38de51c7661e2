#!/usr/bin/env bash
# Makes the files of a release from a binary.
#
#   scripts/package.sh archive BINARY TARGET FOLDER   TARGET is a target of Rust, for example x86_64-unknown-linux-musl
#   scripts/package.sh deb BINARY TARGET FOLDER       needs dpkg-deb
#   scripts/package.sh rpm BINARY TARGET FOLDER       needs rpmbuild
#
# The binary runs on this machine: it prints its man pages, completions, rules and dashboards. Prints the path of the file.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# = 4 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 64; }
kind=$1 binary=$(realpath "$2") target=$3
mkdir -p "$4"
output=$(realpath "$4")
name=redis-script-exporter
version=$(scripts/release.sh version)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
chmod 0755 "$stage"

# documents FOLDER: licences and documentation.
documents() {
    install -d "$1"
    install -m 0644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$1"
    scripts/licenses.sh >"$1/THIRD-PARTY-LICENSES"
}

# extras MAN COMPLETIONS SHARE: man pages in MAN; completions below COMPLETIONS; rules and dashboards in SHARE.
extras() {
    install -d "$1" "$3/dashboards"
    "$binary" man --output "$1" >/dev/null
    install -d "$2/bash-completion/completions" "$2/zsh/vendor-completions" "$2/fish/vendor_completions.d"
    "$binary" completions bash >"$2/bash-completion/completions/$name"
    "$binary" completions zsh >"$2/zsh/vendor-completions/_$name"
    "$binary" completions fish >"$2/fish/vendor_completions.d/$name.fish"
    "$binary" rules >"$3/redis-script.rules.yml"
    "$binary" dashboards --output "$3/dashboards" >/dev/null
}

# system: the tree of files of a package.
system() {
    install -D -m 0755 "$binary" "$stage/usr/bin/$name"
    extras "$stage/usr/share/man/man1" "$stage/usr/share" "$stage/usr/share/$name"
    gzip -9n "$stage"/usr/share/man/man1/*.1
    documents "$stage/usr/share/doc/$name"
    gzip -9n "$stage/usr/share/doc/$name/CHANGELOG.md" "$stage/usr/share/doc/$name/THIRD-PARTY-LICENSES"
    install -D -m 0644 deploy/packages/$name.env "$stage/etc/default/$name"
    # In a package the settings are in a file of their own, and there is no password until one is set.
    install -d "$stage/usr/lib/systemd/system"
    sed -e '1,/^\[Unit\]/ { /^\[Unit\]/!d }' \
        -e "s|^ExecStart=.*|ExecStart=/usr/bin/$name --state.file %S/$name/state|" \
        -e "s|^Type=exec|&\nEnvironmentFile=-/etc/default/$name|" \
        -e '/^# Only root can read the file/d' -e '/^LoadCredential=/d' \
        deploy/systemd/$name.service >"$stage/usr/lib/systemd/system/$name.service"
}

description="Prometheus exporter for slow Lua scripts on Redis and Valkey"
long="It sees a runaway script or function while it blocks the server, names it, and counts every slow call."
homepage=$(scripts/release.sh repository)
reload='[ ! -d /run/systemd/system ] || systemctl daemon-reload || true'
restart="[ ! -d /run/systemd/system ] || systemctl try-restart $name.service || true"
stop="[ ! -d /run/systemd/system ] || systemctl disable --now $name.service || true"

case $kind in
archive)
    folder=$stage/$name-$version-$target
    install -D -m 0755 "$binary" "$folder/$name"
    documents "$folder"
    extras "$folder/man" "$folder/completions" "$folder"
    install -m 0644 deploy/systemd/$name.service "$folder"
    file=$output/$name-$version-$target.tar.gz
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$stage" -c "${folder##*/}" | gzip -9n >"$file"
    ;;
deb)
    case $target in
    x86_64-*) architecture=amd64 ;;
    aarch64-*) architecture=arm64 ;;
    *) echo "package: no deb for $target" >&2; exit 64 ;;
    esac
    system
    install -m 0644 LICENSE-MIT "$stage/usr/share/doc/$name/copyright"
    size=$(du -k -s "$stage" | cut -f 1)
    install -d "$stage/DEBIAN"
    cat >"$stage/DEBIAN/control" <<CONTROL
Package: $name
Version: $version-1
Architecture: $architecture
Section: net
Priority: optional
Installed-Size: $size
Maintainer: The developers of $name <noreply@redis-script-exporter.invalid>
Homepage: $homepage
Description: $description
 $long
CONTROL
    echo "/etc/default/$name" >"$stage/DEBIAN/conffiles"
    printf '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n    %s\n    %s\nfi\n' "$reload" "$restart" >"$stage/DEBIAN/postinst"
    printf '#!/bin/sh\nset -e\nif [ "$1" = remove ]; then\n    %s\nfi\n' "$stop" >"$stage/DEBIAN/prerm"
    printf '#!/bin/sh\nset -e\n%s\n' "$reload" >"$stage/DEBIAN/postrm"
    chmod 0755 "$stage"/DEBIAN/{postinst,prerm,postrm}
    file=$output/${name}_$version-1_$architecture.deb
    dpkg-deb --root-owner-group -Zxz --build "$stage" "$file" >/dev/null
    ;;
rpm)
    system
    spec=$stage.spec
    trap 'rm -rf "$stage" "$stage.spec" "$stage.rpm"' EXIT
    cat >"$spec" <<SPEC
Name: $name
Version: $version
Release: 1
Summary: $description
License: MIT OR Apache-2.0
URL: $homepage
AutoReqProv: no
%global __os_install_post %{nil}
%define _build_id_links none
%description
$long
%install
cp -a "$stage/." "%{buildroot}/"
%post
$reload
$restart
%preun
if [ "\$1" = 0 ]; then $stop; fi
%postun
$reload
%files
%config(noreplace) /etc/default/$name
/usr/bin/$name
/usr/lib/systemd/system/$name.service
/usr/share/$name
/usr/share/bash-completion/completions/$name
/usr/share/zsh/vendor-completions/_$name
/usr/share/fish/vendor_completions.d/$name.fish
%doc /usr/share/doc/$name
/usr/share/man/man1/*
SPEC
    rpmbuild --quiet -bb --target "${target%%-*}" --define "_topdir $stage.rpm" --define "_rpmdir $output" \
        --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" --define "_buildhost localhost" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" "$spec" >/dev/null
    file=$output/$name-$version-1.${target%%-*}.rpm
    ;;
*)
    echo "package: unknown kind $kind" >&2
    exit 64
    ;;
esac
[ -s "$file" ]
echo "$file"
