// Uses one library like an application, so that the library sends its scripts.
//
//   node run.mjs LIBRARY FOLDER PORT   FOLDER contains node_modules/
import { createRequire } from "node:module";

const [library, folder, port] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const address = { host: "127.0.0.1", port: Number(port) };
const client = () => new (require("ioredis"))({ ...address, maxRetriesPerRequest: null });
const finished = (emitter, event) => new Promise((done) => emitter.once(event, done));

const programs = {
  async bull() {
    const queue = new (require("bull"))("orders", { redis: address });
    await queue.add({ n: 1 });
    const delayed = await queue.add({ n: 2 }, { delay: 3_600_000 });
    await queue.add({ n: 3 }, { priority: 2 });
    const completed = finished(queue, "completed");
    const failed = finished(queue, "failed");
    queue.process(async (job) => {
      await job.progress(50);
      if (job.data.n === 3) throw new Error("failed");
    });
    await Promise.all([completed, failed]);
    await delayed.promote();
    await finished(queue, "completed");
    await queue.pause();
    await queue.resume();
    const [broken] = await queue.getFailed();
    await broken.retry();
    await finished(queue, "failed");
    await queue.clean(0, "completed");
    const late = await queue.add({ n: 4 }, { delay: 3_600_000 });
    await late.getState();
    await late.remove();
    await queue.removeJobs("*");
    await queue.obliterate({ force: true });
  },
  async "bee-queue"() {
    const queue = new (require("bee-queue"))("orders", { redis: address, activateDelayedJobs: true });
    const job = await queue.createJob({ n: 1 }).save();
    await queue.createJob({ n: 2 }).delayUntil(Date.now() + 100).save();
    const done = finished(job, "succeeded");
    queue.process(async () => 1);
    await done;
    await queue.checkStalledJobs();
    await queue.removeJob(job.id);
    await new Promise((resolve) => setTimeout(resolve, 300));
  },
  async bottleneck() {
    const Bottleneck = require("bottleneck");
    const limiter = new Bottleneck({
      id: "orders", datastore: "ioredis", clearDatastore: true, clientOptions: address, Redis: require("ioredis"), maxConcurrent: 2, reservoir: 10,
    });
    await limiter.ready();
    await Promise.all([1, 2, 3].map((n) => limiter.schedule(async () => n)));
    await limiter.running();
    await limiter.currentReservoir();
    await limiter.incrementReservoir(1);
    await limiter.updateSettings({ maxConcurrent: 3 });
    await limiter.check();
    const group = new Bottleneck.Group({ datastore: "ioredis", clientOptions: address, Redis: require("ioredis"), maxConcurrent: 1 });
    await group.key("a").schedule(async () => 1);
    await group.deleteKey("a");
  },
  async redlock() {
    const redlock = new (require("redlock"))([client()]);
    const lock = await redlock.lock("lock", 10_000);
    await (await lock.extend(10_000)).unlock();
    await (await redlock.lock(["a", "b"], 10_000)).unlock();
  },
  async "rate-limiter-flexible"() {
    const { RateLimiterRedis } = require("rate-limiter-flexible");
    const limiter = new RateLimiterRedis({ storeClient: client(), points: 5, duration: 5 });
    await limiter.consume("a");
    await limiter.penalty("a");
    await limiter.get("a");
  },
  async "redis-semaphore"() {
    const { Mutex, MultiSemaphore, Semaphore } = require("redis-semaphore");
    for (const lock of [new Mutex(client(), "a"), new Semaphore(client(), "b", 2), new MultiSemaphore(client(), "c", 3, 2)]) {
      await lock.acquire();
      await lock.release();
    }
  },
  async "rate-limit-redis"() {
    const { RedisStore } = require("rate-limit-redis");
    const redis = client();
    const store = new RedisStore({ sendCommand: (...command) => redis.call(...command) });
    store.init({ windowMs: 1000 });
    await store.increment("a");
    await store.get("a");
    await store.decrement("a");
  },
};

await programs[library]();
process.exit(0);
