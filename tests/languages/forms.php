<?php

const HEAD = "local key = KEYS[1]\n";

abstract class Forms
{
    const SHARED = HEAD . 'return redis.call("GET", key)';
    const NOWDOC = <<<'LUA'
      local v = redis.call('GET', KEYS[1])

        return v
      LUA;
    const HEREDOC = <<<"LUA"
        return redis.call('ECHO', "\x41\101\u{1F600}\$x \\ \"")
        LUA;
    const LINES = 'local n = redis.call("INCR", KEYS[1])' . PHP_EOL
        . "return n\n" . '-- it\'s \n';
    const PREFIX = "return redis.call('ECHO', ";
    const OWN = self::PREFIX . "'x')";
    const NAMED = Forms::PREFIX . "'y')";
    const OVER = "return redis.call('ECHO', '\377\xc3\xa9\e')";

    public static function imploded(): string
    {
        return implode("\n", [
            "local n = redis.call('DECR', KEYS[1])",
            'return n',
        ]);
    }

    public static function trimmed(): string
    {
        $trimmed = trim("
            return redis.call('PTTL', KEYS[1])
        ");

        return $trimmed;
    }

    public static function formatted(string $key): string
    {
        return sprintf("return redis.call('GET', '%s')", $key);
    }

    public static function inside(array $names): string
    {
        return <<<LUA
            return redis.call('HGET', '{$names['hash']}', "$names[field]")
            LUA;
    }
}

echo 'HEAD ', sha1(HEAD), "\n";
foreach ((new ReflectionClass('Forms'))->getConstants() as $name => $script) {
    echo $name, ' ', sha1($script), "\n";
}
foreach (['imploded', 'trimmed'] as $name) {
    echo $name, ' ', sha1(Forms::$name()), "\n";
}
