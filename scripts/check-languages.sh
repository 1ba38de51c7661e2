#!/usr/bin/env bash
# Compiles and runs the programs in tests/languages/ whose names begin with "forms" or "Forms", each of which prints the
# names and SHA1s of its scripts, and compares these with expected.txt. The other files are parts of programs that use
# libraries. They are compiled and run with stubs for the libraries.
#
# Languages whose compiler is missing are skipped and listed at the end. KOTLIN is the class path of the compiler and its
# standard library (default: the jars of PyPI's kotlin-jupyter-kernel, which this script downloads). C# is compiled by Mono,
# which supports C# 7, so the raw literals of Store.cs are not checked, and its UTF-8 literal is checked without the suffix.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/tests/languages
expected=$folder/expected.txt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cache=${REDIS_SCRIPT_EXPORTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/redis-script-exporter}/languages
skipped=()
wrong=0
# Names in expected.txt whose literals the compiler does not support, by file.
declare -A omitted=([Store.cs]="Put Prepare")

have() {
    command -v "$1" >/dev/null 2>&1
}

# compare FILE NAME…: reads lines "name sha1" or "name hex:bytes", and compares them with the rows of the file, except for
# rows with the given names. A printed name may be "-".
compare() {
    python3 - "$expected" "$@" <<'PYTHON' || wrong=1
import hashlib, os, re, sys
expected, file, *omitted = sys.argv[1:]
rows = [row.split(" ", 2) for row in open(expected, encoding="utf-8").read().splitlines() if row.startswith(file + ":")]
# Names in expected.txt may be followed by the line number.
known = {(re.sub(r":\d+$", "", name), value) for _, name, value in rows if re.fullmatch("[0-9a-f]{40}", value)}
known = {(name, value) for name, value in known if name not in omitted}
printed = set()
for line in os.fdopen(3):
    name, value = line.split()
    if value.startswith("hex:"):
        value = hashlib.sha1(bytes.fromhex(value[4:])).hexdigest()
    printed.add((name, value))
if any(name == "-" for name, _ in printed):
    printed, known = {("-", value) for _, value in printed}, {("-", value) for _, value in known}
missing, more = sorted(printed - known), sorted(known - printed)
for name, value in missing:
    print(f"check-languages: {file}: {name} {value} is not in expected.txt")
for name, value in more:
    print(f"check-languages: {file}: {name} {value} is not what the compiler has")
print(f"check-languages: {file}: {len(printed & known)} of {len(printed)} scripts")
sys.exit(bool(missing or more or not printed))
PYTHON
} 3<&0

# check PROGRAM FILE COMMAND…: runs a command that prints the scripts of a file, if the program is installed.
check() {
    local program=$1 file=$2
    shift 2
    if ! have "$program"; then
        skipped+=("$file ($program)")
    elif "$@" >"$scratch/out"; then
        # shellcheck disable=SC2086 # names without spaces
        compare "$file" ${omitted[$file]:-} <"$scratch/out"
    else
        echo "check-languages: $file: failed"
        wrong=1
    fi
}

cd "$scratch"
check python3 forms.py python3 "$folder/forms.py"
check ruby forms.rb ruby "$folder/forms.rb"
check php forms.php php "$folder/forms.php"
check go forms.go go run "$folder/forms.go"
check java Forms.java java "$folder/Forms.java"
check node forms.js node "$folder/forms.js"
check elixir forms.exs elixir "$folder/forms.exs"

rust() {
    rustc --edition 2024 --allow warnings -o forms-rs "$folder/forms.rs" && ./forms-rs
}
check rustc forms.rs rust

csharp() {
    mcs -out:forms.exe "$folder/Forms.cs" && mono forms.exe
}
check mcs Forms.cs csharp

typescript() {
    tsc --target es2022 --module commonjs --strict --outDir . "$1" && node "$(basename "$1" .ts).js"
}
if ! have tsc && have npm; then
    [ -d "$cache/node_modules/typescript" ] || npm install --silent --no-audit --no-fund --prefix "$cache" typescript@5 >&2
    PATH=$PATH:$cache/node_modules/.bin
fi
check tsc forms.ts typescript "$folder/forms.ts"

kotlin() {
    java -cp "$KOTLIN" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -nowarn -no-stdlib -cp "$KOTLIN" -d kotlin "$1" &&
        java -cp "kotlin:$KOTLIN" "$2"
}
if [ -z "${KOTLIN:-}" ] && python3 -m pip --version >/dev/null 2>&1; then
    [ -d "$cache/kotlin" ] || python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-input \
        --no-deps --target "$cache/kotlin" kotlin-jupyter-kernel >&2
    KOTLIN=$(find "$cache/kotlin" -name '*-all.jar' -o -name 'kotlin-stdlib-*.jar' | paste -sd:)
fi
[ -z "${KOTLIN:-}" ] || check java Forms.kt kotlin "$folder/Forms.kt" FormsKt

python_stub() {
    cat >locks-stub.py <<'PYTHON'
import hashlib, runpy, sys
def show(script): print("-", hashlib.sha1(script.encode()).hexdigest())
class Redis:
    def register_script(self, script): show(script)
    def eval(self, script, *rest): show(script)
module = runpy.run_path(sys.argv[1])
for name in ["RELEASE", "EXTEND", "TOUCH", "COUNT", "PEEK"]: show(module[name])
queue = module["Queue"](Redis(), "")
for script in queue.scripts.values(): show(script)
queue.prefix = ""
queue.size(Redis())
PYTHON
    python3 -W ignore locks-stub.py "$folder/locks.py"
}
check python3 locks.py python_stub

ruby_stub() {
    cat >jobs-stub.rb <<'RUBY'
require "digest"
def show(script) = puts("- #{Digest::SHA1.hexdigest(script)}")
class Redis
  def eval(script, **) = show(script)
  def multi(*scripts) = scripts.each { |script| show(script) }
end
load ARGV[0]
Jobs.constants.each { |name| show(Jobs.const_get(name)) }
Jobs.new.size(Redis.new)
Jobs.new.both(Redis.new)
RUBY
    ruby jobs-stub.rb "$folder/jobs.rb"
}
check ruby jobs.rb ruby_stub

php_stub() {
    cat >scripts-stub.php <<'PHP'
<?php
function show($script) { echo "- ", sha1($script), "\n"; }
class Client { function eval($script) { show($script); } }
require $argv[1];
show(Scripts::UNLOCK);
show((new ReflectionProperty('Scripts', 'touch'))->getDefaultValue());
show(Scripts::pop());
(new Scripts)->size(new Client);
PHP
    php scripts-stub.php "$folder/Scripts.php"
}
check php Scripts.php php_stub

java_stub() {
    cat >LimiterStub.java - <(sed -e 's/private static/static/' -e 's/Script(String lua) {}/Script(String lua) { Main.show(lua); }/' \
        "$folder/Limiter.java") <<'JAVA'
class Main {
    static void show(String script) {
        try {
            byte[] hash = java.security.MessageDigest.getInstance("SHA-1").digest(script.getBytes("UTF-8"));
            System.out.println("- " + java.util.HexFormat.of().formatHex(hash));
        } catch (Exception error) { throw new RuntimeException(error); }
    }
    public static void main(String[] arguments) {
        show(Limiter.ACQUIRE);
        show(Limiter.RELEASE);
        Limiter.Script.values();
        new Limiter().take(new Jedis(), "");
    }
}
class Jedis { Object eval(String script, Object... rest) { Main.show(script); return null; } }
JAVA
    java LimiterStub.java
}
check java Limiter.java java_stub

node_stub() {
    cat >queue-stub.js <<'JAVASCRIPT'
const { createHash } = require('crypto');
const show = (script) => console.log('-', createHash('sha1').update(script).digest('hex'));
const source = require('fs').readFileSync(process.argv[2], 'utf8');
const client = { defineCommand: (name, { lua }) => show(lua), eval: show };
const exported = {};
const module_ = new Function('exports', 'client', source + '; return { take, scripts, Queue };')(exported, client);
[module_.take, exported.drop, ...Object.values(module_.scripts)].forEach(show);
module_.Queue.prototype.resume.call({ client });
JAVASCRIPT
    node queue-stub.js "$folder/queue.js"
}
check node queue.js node_stub

rust_stub() {
    cat >queue-stub.rs - "$folder/queue.rs" <<'RUST'
fn show(script: &str) {
    println!("- hex:{}", script.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
}
mod redis {
    pub struct Script;
    impl Script {
        pub fn new(script: &str) -> Self { crate::show(script); Self }
    }
    pub struct Cmd;
    pub fn cmd(_: &str) -> Cmd { Cmd }
    impl Cmd {
        pub fn arg(self, script: &str) -> Self { crate::show(script); self }
    }
}
struct Scripts { peek: &'static str }
impl Drop for Scripts {
    fn drop(&mut self) { show(self.peek) }
}
struct Connection;
impl Connection {
    fn query(&mut self, _: redis::Cmd) -> u64 { 0 }
}
fn main() {
    show(PUSH);
    show(POP);
    size(&mut Connection);
}
RUST
    rustc --edition 2024 --allow warnings -o queue-rs queue-stub.rs && ./queue-rs
}
check rustc queue.rs rust_stub

csharp_stub() {
    {
        cat <<'CSHARP'
using System;
using System.Linq;
class IDatabase { public object ScriptEvaluate(string script) { Store.Show("Drop", script); return null; } }
class LuaScript { public static object Prepare(string script) { Store.Show("size", script); return null; } }
partial class Store
{
    object size;
    public static void Show(string name, string script)
    {
        var hash = System.Security.Cryptography.SHA1.Create().ComputeHash(System.Text.Encoding.UTF8.GetBytes(script));
        Console.WriteLine(name + " " + string.Concat(hash.Select(b => b.ToString("x2"))));
    }
    static void Main()
    {
        Show("Take", Take);
        Show("Touch", new Store().Touch);
        new Store().Drop(new IDatabase());
        new Store().Prepare();
    }
}
CSHARP
        sed -e 's/^class/partial class/' -e '/Put = """/,/""";/d' -e 's/"u8)/")/' -e '/var all =/d' -e '/"""/d' "$folder/Store.cs"
    } >store.cs
    mcs -nowarn:649,169,414 -out:store.exe store.cs && mono store.exe
}
check mcs Store.cs csharp_stub

go_stub() {
    {
        sed -e 's/^package .*/package main/' -e '/^import/d' "$folder/limiter.go"
        cat <<'GO'
import ("crypto/sha1"; "fmt")
type library struct{}
func show(s string) { fmt.Printf("- %x\n", sha1.Sum([]byte(s))) }
func (library) NewScript(s string) string { return s }
GO
    } >rest
    { echo 'package main'; sed -n '/^import (/p' rest; sed -e '/^package/d' -e '/^import (/d' rest
      cat <<'GO'
var redis library
var ctx = 0
func main() { show(allow); show(reset); for _, s := range scripts { show(s) }; show("return redis.call('UNLINK', KEYS[1])") }
GO
    } | sed '/^func Forget/,/^}/d' >limiter.go
    go run limiter.go
}
check go limiter.go go_stub

elixir_stub() {
    sed 's/Redix.command(conn, \[\(.*\)\])/[\1]/' "$folder/locker.ex" | sed 's/^  @touch .*/&\n  def constants, do: [@unlock, @raw, @touch]/' >locker.exs
    cat >>locker.exs <<'ELIXIR'
scripts = Locker.constants() ++ Map.values(Locker.scripts()) ++ [Enum.at(Locker.size(0, "k"), 1)]
for script <- scripts, do: IO.puts("- " <> Base.encode16(:crypto.hash(:sha, script), case: :lower))
ELIXIR
    sed -i 's/  def all(conn).*//' locker.exs
    elixir locker.exs 2>/dev/null
}
check elixir locker.ex elixir_stub

typescript_stub() {
    cat >limits.ts - "$folder/limits.ts" <<'TYPESCRIPT'
const crypto = (eval('require') as any)('crypto');
const show = (s: string) => console.log('-', crypto.createHash('sha1').update(s).digest('hex'));
class Redis { async eval<T>(s: string, n: number, k: string): Promise<T> { show(s); return undefined as any; } }
TYPESCRIPT
    echo "show(consume); show((Limits as any).RESET); new Limits(new Redis()).peek('');" >>limits.ts
    typescript limits.ts
}
check tsc limits.ts typescript_stub

kotlin_stub() {
    cat >cache.kt - "$folder/Cache.kt" <<'KOTLIN'
import java.security.MessageDigest
fun show(s: String) = println("- " + MessageDigest.getInstance("SHA-1").digest(s.toByteArray()).joinToString("") { "%02x".format(it) })
class Redis { fun eval(s: String, keys: List<String>): Long { show(s); return 0 } }
KOTLIN
    sed -i -e 's/private val load/val load/' -e 's/private const/const/' -e '/fun clear/d' cache.kt
    cat >>cache.kt <<'KOTLIN'
fun main() {
    val cache = Cache(Redis())
    show(Cache.STORE)
    show(cache.load)
    show(cache.margin)
    cache.drop("")
}
KOTLIN
    kotlin cache.kt CacheKt
}
[ -z "${KOTLIN:-}" ] || check java Cache.kt kotlin_stub

for file in "${!omitted[@]}"; do echo "check-languages: $file: not checked: ${omitted[$file]}"; done
[ ${#skipped[@]} -eq 0 ] || echo "check-languages: not checked, as the program is missing: ${skipped[*]}"
exit "$wrong"
