<?php
// Uses one library like an application, so that the library sends its scripts: run.php LIBRARY PORT.
[, $library, $port] = $argv;
require 'Symfony/Component/Lock/autoload.php';

use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\RedisStore;

$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);
$factory = new LockFactory(new RedisStore($redis));
$lock = $factory->createLock('lock', 10);
$lock->acquire() || exit(1);
$lock->refresh();
$lock->isAcquired() || exit(1);
$lock->release();
$shared = $factory->createLock('shared', 10);
$shared->acquireRead() || exit(1);
$shared->release();
