#!/usr/bin/env python3
"""Writes the bundled catalogue of script names: src/script/catalogue/bundled.bin.

    scripts/catalogue/generate.py --cache DIR [--merge] [--only NAME]...

libraries.toml lists the libraries. A library is read from the tags of its public repository (cloned into DIR/git), or from its
packages on npm (DIR/npm) or PyPI (DIR/pypi). recorded.tsv has scripts that libraries sent while they ran (record.py), facts.tsv has
those that were entered by hand. Only hashes, names and versions are kept. Libraries that could not be read are reported, and the
exit code is then 1. With --merge the libraries that are not read stay as they are in the present file.
"""

import argparse
import fnmatch
import hashlib
import json
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections import defaultdict
from pathlib import Path

from literals import scripts_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUTPUT = ROOT / "src/script/catalogue/bundled.bin"
DOCUMENT = ROOT / "docs/libraries.md"
VERSION = re.compile(r"\d+(?:\.\d+)*")
MAX_ARGUMENT = 128
MAX_SIZE = 300_000


class Unreadable(Exception):
    """Error about a library that cannot be read."""


def version_key(version):
    return tuple(int(part) for part in version.split("."))


def git(repository, *arguments, data=None):
    return subprocess.run(["git", "-C", str(repository), *arguments], input=data, capture_output=True, check=True).stdout


def clone(cache, name):
    """Returns the directory of a bare clone, which is created if it is missing."""
    folder = cache / "git" / name.replace("/", "+")
    for known in (folder / "repo", folder):
        if (known / "HEAD").exists():
            return known
    folder.parent.mkdir(parents=True, exist_ok=True)
    url = f"https://github.com/{name}"
    done = subprocess.run(["git", "clone", "--quiet", "--bare", url, str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unreadable(f"cannot clone {url}")
    return folder


class Blobs:
    """Contents of a repository's files, each read once."""

    def __init__(self, repository):
        self.process = subprocess.Popen(
            ["git", "-C", str(repository), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.known = {}

    def read(self, blob):
        if blob not in self.known:
            self.process.stdin.write(blob.encode() + b"\n")
            self.process.stdin.flush()
            header = self.process.stdout.readline().split()
            if header[1] == b"missing":
                self.known[blob] = ""
            else:
                body = self.process.stdout.read(int(header[2]))
                self.process.stdout.read(1)
                self.known[blob] = body.decode("utf-8", "replace")
        return self.known[blob]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def of_git(library, cache):
    """Yields the versions of a repository, each with the files that match the library's patterns."""
    repository = clone(cache, library["git"])
    tag_pattern = re.compile(library.get("tags", r"v?(\d+(?:\.\d+)+)"))
    versions = {}
    for tag in git(repository, "tag").decode().split():
        found = tag_pattern.fullmatch(tag)
        if found:
            versions[found.group(1)] = tag
    if not versions:
        raise Unreadable("no tag matches")
    patterns = [re.compile(fnmatch.translate(path)) for path in library["paths"]]
    blobs = Blobs(repository)
    try:
        for version in sorted(versions, key=version_key):
            files = {}
            for line in git(repository, "ls-tree", "-r", versions[version]).decode("utf-8", "replace").splitlines():
                meta, path = line.split("\t", 1)
                kind, blob = meta.split()[1:3]
                if kind == "blob" and any(pattern.match(path) for pattern in patterns):
                    files[path] = blobs.read(blob)
            yield version, files
    finally:
        blobs.close()


def of_npm(library, cache):
    """Versions of a package, each with the files that match the library's patterns."""
    package = library["npm"]
    folder = cache / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["npm", "view", package, "versions", "--json"], capture_output=True, text=True)
    if listed.returncode != 0:
        raise Unreadable("the registry does not have it")
    versions = json.loads(listed.stdout)
    versions = [versions] if isinstance(versions, str) else versions
    with_prereleases = library.get("prereleases", False)
    versions = [version for version in versions if VERSION.fullmatch(version) or with_prereleases]
    versions.sort(key=lambda version: version_key(version.partition("-")[0]))
    prefix = package.lstrip("@").replace("/", "-")
    archive = lambda version: folder / f"{prefix}-{version}.tgz"
    missing = [version for version in versions if not archive(version).exists()]
    for start in range(0, len(missing), 20):
        specs = [f"{package}@{version}" for version in missing[start:start + 20]]
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", str(folder), *specs], capture_output=True)
    patterns = [re.compile(fnmatch.translate(path)) for path in library["paths"]]
    for version in versions:
        if not archive(version).exists():
            print(f"{library['name']}: {version} is not in the registry", file=sys.stderr)
            continue
        files = {}
        with tarfile.open(archive(version)) as tar:
            for member in tar:
                path = member.name.partition("/")[2]
                if member.isfile() and any(pattern.match(path) for pattern in patterns):
                    files[path] = tar.extractfile(member).read().decode("utf-8", "replace")
        yield version.partition("-")[0], files


def of_pypi(library, cache):
    """Versions of a package, each with the files that match the library's patterns."""
    package = library["pypi"]
    folder = cache / "pypi" / package
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    listed = subprocess.run([*pip, "index", "versions", package], capture_output=True, text=True)
    found = re.search(r"Available versions: (.*)", listed.stdout)
    if not found:
        raise Unreadable("the index does not have it")
    wanted = re.compile(library.get("versions", ".*"))
    versions = [version for version in found.group(1).split(", ") if VERSION.fullmatch(version) and wanted.fullmatch(version)]
    patterns = [re.compile(fnmatch.translate(path)) for path in library["paths"]]
    for version in sorted(versions, key=version_key):
        target = folder / version
        if not target.exists():
            subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", str(target), f"{package}=={version}"], capture_output=True)
        files = {}
        for archive in target.glob("*"):
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as members:
                    contents = [(name, members.read(name)) for name in members.namelist()]
            else:
                with tarfile.open(archive) as tar:
                    contents = [(m.name.partition("/")[2], tar.extractfile(m).read()) for m in tar if m.isfile()]
            files.update((path, body.decode("utf-8", "replace")) for path, body in contents if any(p.match(path) for p in patterns))
        if not files:
            print(f"{library['name']}: {version} could not be read", file=sys.stderr)
        yield version, files


def raw(files, cache=None):
    for path, source in files.items():
        yield from scripts_of(path, source)


def erb(files, cache=None):
    """Expands Lua files that are ERB templates; each partial is inserted once."""
    lua = {path: source for path, source in files.items() if path.endswith(".lua")}
    def render(path, seen):
        def partial(match):
            wanted = next((other for other in lua if other == f"{root}/{match.group(1)}"), None)
            if wanted is None or wanted in seen:
                return ""
            seen.add(wanted)
            return render(wanted, seen)
        return re.sub(r"<%=\s*include_partial\s*\(?\s*['\"](.*?)['\"]\s*\)?\s*%>", partial, lua[path])
    for path in lua:
        root = path.rpartition("/")[0]
        if not root.endswith("shared"):
            yield path.rpartition("/")[2].removesuffix(".lua"), render(path, set())


def package(files, cache):
    """Returns the scripts of bull, bullmq and bottleneck: the files composed for the package, or those of the package's own loader."""
    composed = {path: source for path, source in files.items() if "/scripts/" in path and path.endswith(".js")}
    commands = {path: source for path, source in files.items() if "/commands/" in path or path.startswith("lib/")}
    if composed:
        yield from raw(composed)
    elif commands:
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            for path, source in commands.items():
                target = Path(folder) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(source)
            root = min((path.rpartition("/")[0] for path in commands), key=len)
            done = subprocess.run(["node", str(HERE / "load.cjs"), str(Path(folder) / root)], capture_output=True, text=True)
            if done.returncode == 0:
                yield from json.loads(done.stdout).items()
            else:
                print(f"the loader of {root} failed: {done.stderr.strip()[:300]}", file=sys.stderr)


TRANSFORMS = {
    "raw": lambda body: body,
    "strip": lambda body: body.strip(),
    "end": lambda body: body.rstrip(),
    # Packages built on Windows.
    "crlf": lambda body: body.replace("\r\n", "\n").replace("\n", "\r\n"),
    # Removes the leading white space of each line, like rate-limit-redis.
    "lines": lambda body: re.sub(r"^\s+", "", body, flags=re.M).strip(),
}


def number_of_keys(name):
    """Returns the name of a script without the number of keys that bull and bullmq append to file names."""
    return re.sub(r"-\d+$", "", name)


def scripts(library, cache):
    """Returns the rows (SHA1, fingerprint or None, name, version) of a library."""
    read = next(read for kind, read in (("npm", of_npm), ("pypi", of_pypi), ("git", of_git)) if kind in library)
    versions = read(library, cache)
    loader = {"raw": raw, "erb": erb, "package": package}[library.get("loader", "raw")]
    forms = library.get("forms", ["raw"])
    found = set()
    for version, files in versions:
        for name, body in loader(files, cache):
            name = number_of_keys(name)
            name = re.sub(r"[^\w.-]", "", name) or "script"
            for hole, value in library.get("defaults", {}).items():
                body = body.replace(hole, value)
            for form in forms:
                text = TRANSFORMS[form](body).encode()
                if text:
                    found.add((hashlib.sha1(text).hexdigest(), fingerprint(text), name, version))
    if not found:
        raise Unreadable("no script found")
    return found


def fingerprint(body):
    """Returns the identity of a body truncated by the slow log, as computed by Identity::fingerprint; None if the body is short."""
    if len(body) <= MAX_ARGUMENT:
        return None
    return hashlib.sha1(body[:MAX_ARGUMENT] + str(len(body)).encode()).hexdigest()[:12]


def owners_of(name, rows):
    """Returns owners (library, script, first, last version) by SHA1. A renamed script has its latest name."""
    versions, names = defaultdict(set), defaultdict(set)
    for sha1, _, script, version in rows:
        key = version_key(version)
        versions[sha1].add(key)
        names[sha1].add((key, script))
    owners = {}
    for sha1, found in versions.items():
        latest = max(key for key, _ in names[sha1])
        script = min(script for key, script in names[sha1] if key == latest)
        first, last = (".".join(map(str, key[:2])) for key in (min(found), max(found)))
        owners[sha1] = (name, script, first, last)
    return owners


def read_facts(path):
    """Returns the rows of a table of facts: SHA1, fingerprint or -, library, script, first and last version, source."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            sha1, cut, library, script, first, last, _source = line.split("\t")
            yield sha1, None if cut == "-" else cut, (library, script, first, last)


def table(texts):
    """Encodes strings as their offsets and their text."""
    joined = b"".join(text.encode() for text in texts)
    offsets, at = [], 0
    for text in texts:
        offsets.append(at)
        at += len(text.encode())
    offsets.append(at)
    return struct.pack(f"<{len(offsets)}I", *offsets), joined


def encode(owners, cuts):
    """Encodes the file in little endian; see src/script/catalogue/bundled.rs."""
    sha1s = sorted(owners)
    libraries = sorted({owner[0] for all in owners.values() for owner in all})
    names = sorted({owner[1] for all in owners.values() for owner in all})
    versions = sorted({v for all in owners.values() for owner in all for v in owner[2:]}, key=version_key)
    flat, starts = [], []
    for sha1 in sha1s:
        starts.append(len(flat))
        flat += owners[sha1]
    starts.append(len(flat))
    index = {sha1: at for at, sha1 in enumerate(sha1s)}
    cut_rows = sorted((cut, index[all[0]]) for cut, all in ((cut, sorted(found)) for cut, found in cuts.items()) if len(all) == 1)
    texts = [table(part) for part in (libraries, names, versions)]
    header = struct.pack("<8I", 0x31435352, len(sha1s), len(flat), len(cut_rows), len(libraries), len(names), len(versions), 0)
    body = header
    body += b"".join(bytes.fromhex(sha1) for sha1 in sha1s)
    body += struct.pack(f"<{len(starts)}H", *starts)
    where = [{text: at for at, text in enumerate(part)} for part in (libraries, names, versions)]
    for library, script, first, last in flat:
        body += struct.pack("<4H", where[0][library], where[1][script], where[2][first], where[2][last])
    body += b"".join(bytes.fromhex(cut) + struct.pack("<H", at) for cut, at in cut_rows)
    for offsets, joined in texts:
        body += offsets + joined
    return body


def decode(data):
    """Decodes the owners and unique fingerprints in a file written by encode()."""
    _, sha1_count, owner_count, cut_count, *text_counts, _ = struct.unpack_from("<8I", data)
    at = 32
    def take(layout, count=1):
        nonlocal at
        rows = [struct.unpack_from(layout, data, at + row * struct.calcsize(layout)) for row in range(count)]
        at += count * struct.calcsize(layout)
        return rows
    sha1s = [row[0].hex() for row in take("<20s", sha1_count)]
    starts = [row[0] for row in take("<H", sha1_count + 1)]
    flat = take("<4H", owner_count)
    cut_rows = take("<6sH", cut_count)
    texts = []
    for count in text_counts:
        offsets = [row[0] for row in take("<I", count + 1)]
        joined = data[at:at + offsets[-1]]
        texts.append([joined[start:end].decode() for start, end in zip(offsets, offsets[1:])])
        at += offsets[-1]
    libraries, names, versions = texts
    owners = {
        sha1: [(libraries[a], names[b], versions[c], versions[d]) for a, b, c, d in flat[start:end]]
        for sha1, start, end in zip(sha1s, starts, starts[1:])
    }
    return owners, {cut.hex(): sha1s[row] for cut, row in cut_rows}


def document(read, missing, scripts):
    """Returns the page about libraries."""
    rows = [f"| {name} | {source} | {versions} | {count} |" for name, (source, versions, count) in read.items()]
    gaps = [f"| {row['name']} | {row['reason']} |" for row in missing]
    return "\n".join([
        "# Libraries whose scripts have bundled names",
        "",
        "Generated by `scripts/catalogue/generate.py`; [scripts.md](scripts.md#how-to-add-a-library) has the steps for adding one. "
        f"{scripts} distinct scripts of {len(read)} libraries, by SHA1 and by the first 128 bytes with the length; no source code is included. "
        "A script that several libraries have is counted for each.",
        "",
        "| library | read from | versions with scripts | scripts |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "## Not included, or only in part",
        "",
        "| library | reason |",
        "| --- | --- |",
        *gaps,
        "",
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--merge", action="store_true", help="keep the libraries that are not read")
    parser.add_argument("--list", type=Path, help="also write the rows as text")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    table = tomllib.loads((HERE / "libraries.toml").read_text())
    libraries, read = table["library"], {}
    owners, cuts, failures = defaultdict(list), defaultdict(set), []
    former, former_cuts = decode(OUTPUT.read_bytes()) if arguments.merge else ({}, {})
    ambiguous = set()
    for library in libraries:
        if arguments.only and library["name"] not in arguments.only:
            continue
        try:
            rows = scripts(library, arguments.cache)
        except Unreadable as error:
            failures.append(f"{library['name']}: {error}")
            continue
        for sha1, cut, *_ in rows:
            if cut:
                cuts[cut].add(sha1)
                # The current file contains the script but not its beginning, because another script has the same beginning.
                if sha1 in former and cut not in former_cuts:
                    ambiguous.add(cut)
        found = owners_of(library["name"], rows)
        for sha1, owner in found.items():
            owners[sha1].append(owner)
        versions = sorted({row[3] for row in rows}, key=version_key)
        source = next(f"{kind}: `{library[kind]}`" for kind in ("npm", "pypi", "git") if kind in library)
        read[library["name"]] = (source, f"{versions[0]}–{versions[-1]}", len(found))
        print(f"{library['name']}: {len(found)} scripts", file=sys.stderr)
    for sha1, all_owners in former.items():
        owners[sha1] += [owner for owner in all_owners if owner[0] not in read]
        if not owners[sha1]:
            del owners[sha1]
    for cut, sha1 in former_cuts.items():
        if sha1 in owners:
            cuts[cut].add(sha1)
    if arguments.merge:
        rows = (line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| "))
        read.update({row[0]: tuple(row[1:]) for row in rows if len(row) == 4 and row[0] not in ("library", "---", *read)})
    for file in ("recorded.tsv", "facts.tsv"):
        for sha1, cut, owner in read_facts(HERE / file):
            name, _, first, last = owner
            if name not in {known[0] for known in owners[sha1]}:
                owners[sha1].append(owner)
            source, versions, _ = read.get(name, (f"`scripts/catalogue/{file}`", f"{first}–{last}", 0))
            start, end = versions.split("–")
            read[name] = (source, f"{min(first, start, key=version_key)}–{max(last, end, key=version_key)}", 0)
            if cut:
                cuts[cut].add(sha1)
    for cut in ambiguous:
        cuts.pop(cut, None)
    order = {library["name"]: at for at, library in enumerate(libraries)}
    for all_owners in owners.values():
        all_owners.sort(key=lambda owner: order.get(owner[0], len(order)))
    counts = defaultdict(int)
    for all_owners in owners.values():
        for owner in all_owners:
            counts[owner[0]] += 1
    read = {name: (source, versions, counts[name]) for name, (source, versions, _) in read.items()}
    read = dict(sorted(read.items(), key=lambda item: order.get(item[0], len(order))))
    encoded = encode(owners, cuts)
    print(f"{len(owners)} scripts, {len(encoded)} bytes", file=sys.stderr)
    if len(encoded) > MAX_SIZE:
        sys.exit(f"over the limit of {MAX_SIZE} bytes")
    arguments.output.write_bytes(encoded)
    arguments.document.write_text(document(read, table.get("missing", []), len(owners)))
    if arguments.list:
        rows = [f"{sha1}\t{library}@{first}–{last}/{script}" for sha1, all in sorted(owners.items()) for library, script, first, last in all]
        arguments.list.write_text("\n".join(rows) + "\n")
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
