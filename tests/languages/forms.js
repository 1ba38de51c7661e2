const crypto = require('crypto');

const HEAD = 'local key = KEYS[1]\n';

const scripts = {
  shared: HEAD + "return redis.call('GET', key)",
  inside: `${HEAD}return redis.call('DEL', key)`,
  'lock-take': `return redis.call('SET', KEYS[1], ARGV[1], 'NX') -- \x41\u0042\u{1F600}\0`,
  lines: [
    "local n = redis.call('INCR', KEYS[1])", // counts
    'return n',
  ].join('\n'),
  bare: ["return redis.call('ECHO', 'a", "b')"].join(),
  raw: String.raw`return redis.call('ECHO', '\n\d')`,
  trimmed: `
    return redis.call('TTL', KEYS[1])
  `.trim(),
  continued: 'return redis.call(\'PTTL\', KEYS[1]) \
    -- end',
  concatenated: 'return '.concat("redis.call('LLEN', ", 'KEYS[1])'),
  dollar: `return redis.call('ECHO', '$x $\{y}')`,
};

class Queue {
  static SIZE = "return redis.call('SCARD', KEYS[1])";

  #pop = `return redis.call('SPOP', KEYS[1])`;

  template(prefix) {
    return this.run(`return redis.call('GET', '${prefix}:${this.name}')`);
  }

  get pop() {
    return this.#pop;
  }
}

const show = (name, script) => console.log(name, crypto.createHash('sha1').update(script).digest('hex'));
for (const [name, script] of Object.entries(scripts)) show(name, script);
show('HEAD', HEAD);
show('SIZE', Queue.SIZE);
show('pop', new Queue().pop);
