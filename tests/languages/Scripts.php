<?php

class Scripts
{
    const UNLOCK = <<<'LUA'
        if redis.call("get", KEYS[1]) == ARGV[1] then
            return redis.call("del", KEYS[1]) -- $x \n
        end
        return 0
        LUA;

    private $touch = 'return redis.call(\'EXPIRE\', KEYS[1], 60)\n';

    public static function pop()
    {
        return <<<LUA
local job = redis.call('lpop', KEYS[1])
return "\\n\"" .. '\x41\u{e9}'
LUA;
    }

    public function size($redis)
    {
        $queue = "return redis.call('llen', KEYS[1])" . " -- \q" . "\n";
        return $redis->eval($queue, 1);
    }

    public function purge($redis)
    {
        return $redis->eval("return redis.call('del', '{$this->prefix}:$name') ", 0);
    }
}
