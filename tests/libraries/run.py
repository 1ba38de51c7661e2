"""Uses one library like an application, so that the library sends its scripts: run.py LIBRARY PORT."""

import asyncio
import sys
import time
import uuid

library, port = sys.argv[1], int(sys.argv[2])
url = f"redis://127.0.0.1:{port}/0"


def redis_py():
    import redis

    lock = redis.Redis(port=port).lock("lock", timeout=10)
    lock.acquire()
    lock.extend(10)
    lock.reacquire()
    lock.release()


def rq():
    import redis
    from rq import Queue, SimpleWorker
    from rq.registry import FinishedJobRegistry

    connection = redis.Redis(port=port)
    queue = Queue(connection=connection)
    queue.enqueue(time.time)
    queue.enqueue_in(__import__("datetime").timedelta(seconds=60), time.time)
    SimpleWorker([queue], connection=connection).work(burst=True)
    queue.get_job_ids()
    FinishedJobRegistry(queue=queue).cleanup()
    queue.delete(delete_jobs=True)


def dramatiq():
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def work():
        pass

    broker.declare_queue("default")
    work.send()
    work.send_with_options(delay=100)
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    broker.join("default")
    worker.stop()
    broker.flush_all()


def limits():
    from limits import RateLimitItemPerMinute, storage, strategies

    store = storage.storage_from_string(url)
    for strategy in (strategies.FixedWindowRateLimiter, strategies.MovingWindowRateLimiter, strategies.SlidingWindowCounterRateLimiter):
        limiter = strategy(store)
        item = RateLimitItemPerMinute(2)
        limiter.hit(item, strategy.__name__)
        limiter.test(item, strategy.__name__)
        limiter.get_window_stats(item, strategy.__name__)
        limiter.clear(item, strategy.__name__)
    store.reset()


def python_redis_lock():
    import redis
    import redis_lock

    connection = redis.Redis(port=port)
    lock = redis_lock.Lock(connection, "lock", expire=10)
    lock.acquire()
    lock.extend(10)
    lock.release()
    redis_lock.Lock(connection, "lock").reset()
    redis_lock.reset_all(connection)


def huey():
    from huey import PriorityRedisHuey, RedisHuey

    for huey in (RedisHuey(port=port), PriorityRedisHuey("priority", port=port)):
        work = huey.task()(time.time)
        work()
        work.schedule(delay=60)
        huey.execute(huey.dequeue())
        huey.read_schedule()
        with huey.lock_task("lock"):
            pass


def walrus():
    from walrus import Database

    database = Database(port=port)
    database.lock("lock", ttl=1000).acquire()
    database.lock("lock", ttl=1000).release()
    limit = database.rate_limit("limit", limit=2, per=60)
    limit.limit("a")
    cache = database.cache()
    cache.set("a", 1)
    cache.flush()
    database.Hash("h").incr("a", 1)
    database.Array("list").append("x")
    database.Array("list").pop()


def pottery():
    import redis
    from pottery import NextID, Redlock

    masters = {redis.Redis(port=port)}
    lock = Redlock(key="lock", masters=masters)
    lock.acquire()
    lock.extend()
    lock.release()
    next(NextID(key="ids", masters=masters))


def saq():
    from saq import Queue, Worker

    async def work(ctx):
        return 1

    async def main():
        queue = Queue.from_url(url)
        await queue.connect()
        await queue.enqueue("work")
        await queue.enqueue("work", scheduled=time.time() + 1)
        worker = Worker(queue, functions=[("work", work)], burst=True, dequeue_timeout=1)
        await worker.start()
        await queue.info()
        await queue.sweep()
        await queue.disconnect()

    asyncio.run(main())


{name: function for name, function in globals().copy().items() if callable(function)}[library.replace("-", "_")]()
