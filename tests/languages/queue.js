const take = `
local job = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
return job .. "\n\${x}\`"
`;

exports.drop = "redis.call('DEL', KEYS[1]) \
return '\x41\u00e9\u{1F600}'" + '\n';

const scripts = {
  'size': `return redis.call('LLEN', KEYS[1])`,
  peek: /* `redis.call` */ 'return redis.call("LINDEX", KEYS[1], 0)',
};

client.defineCommand('pause', { numberOfKeys: 1, lua: `return redis.call('SET', KEYS[1], 1)` });

class Queue {
  clear() {
    const r = /[`/"']/g;
    return this.client.eval(`return redis.call('DEL', '${this.prefix}:x', ${n + 1})`, 0);
  }

  resume() {
    return this.client.eval("return redis.call('DEL', KEYS[1])", 1, this.key);
  }
}
