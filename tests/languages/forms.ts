declare function require(name: string): any;
const crypto = require('crypto');

const HEAD = 'local key = KEYS[1]\n' as const;

export const scripts: Record<string, string> = {
  shared: HEAD + "return redis.call('GET', key)",
  inside: `${HEAD}return redis.call('DEL', key)`,
  lines: ["local n = redis.call('INCR', KEYS[1])", 'return n'].join('\n'),
};

enum Script {
  Take = 'return redis.call("SET", KEYS[1], ARGV[1])',
}

const asConst = `return redis.call('TTL', KEYS[1])\n` as const;
const cast = <string>"return redis.call('PTTL', KEYS[1])";

abstract class Limits<T extends object> {
  protected readonly size = `return redis.call('SCARD', KEYS[1])`;

  static check<K extends keyof any>(this: unknown, key: K, echo = "return redis.call('ECHO', '\u{e9}')"): string {
    return echo;
  }

  template(prefix: string): string {
    return `return redis.call('GET', '${prefix as string}')`;
  }

  get body(): string {
    return this.size;
  }
}

class Real extends Limits<object> {}

const show = (name: string, script: string): void =>
  console.log(name, crypto.createHash('sha1').update(script).digest('hex'));
for (const name of Object.keys(scripts)) show(name, scripts[name]);
show('HEAD', HEAD);
show('Take', Script.Take);
show('asConst', asConst);
show('cast', cast);
show('size', new Real().body);
show('echo', Limits.check(''));
