// Uses BullMQ like an application, so that BullMQ itself runs as many of its scripts as possible.
//
//   node run.mjs FOLDER PORT   FOLDER contains node_modules/bullmq
import { createRequire } from "node:module";

const [folder, port] = process.argv.slice(2);
const { FlowProducer, Queue, QueueEvents, Worker } = createRequire(`${folder}/`)("bullmq");
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const finished = (worker, event) => new Promise((done) => worker.once(event, done));

const queue = new Queue("orders", { connection });
const events = new QueueEvents("orders", { connection });
await events.waitUntilReady();

const plain = await queue.add("plain", { n: 1 });
await queue.addBulk([{ name: "bulk", data: {} }, { name: "bulk", data: {} }]);
const delayed = await queue.add("delayed", {}, { delay: 3_600_000 });
const urgent = await queue.add("urgent", {}, { priority: 5 });
await queue.add("once", {}, { deduplication: { id: "d" } });
await queue.add("once", {}, { deduplication: { id: "d" } });
await queue.removeDeduplicationKey("d");
await urgent.changePriority({ priority: 2 });
await delayed.changeDelay(7_200_000);
await delayed.promote();
await plain.updateData({ n: 2 });
await plain.updateProgress(10);
await plain.log("a line");
await queue.upsertJobScheduler("nightly", { pattern: "0 3 * * *" });
await queue.upsertJobScheduler("nightly", { every: 60_000 });
await queue.getJobSchedulers();
await queue.removeJobScheduler("nightly");
await queue.pause();
await queue.resume();
await queue.getJobCounts();
await queue.getJobs(["waiting", "delayed", "prioritized"]);
await queue.getCountsPerPriority([0, 2]);
await plain.getState();
await queue.getRateLimitTtl();

const flow = new FlowProducer({ connection });
const tree = await flow.add({
    name: "parent",
    queueName: "orders",
    children: [{ name: "child", queueName: "orders", data: {} }],
});
await tree.job.getDependenciesCount();

let failures = 1;
const worker = new Worker(
    "orders",
    async (job) => {
        await job.updateProgress(50);
        if (job.name === "plain" && failures-- > 0) throw new Error("the first try fails");
        return job.name;
    },
    { connection, concurrency: 2, metrics: { maxDataPoints: 10 } },
);
const failed = finished(worker, "failed");
const parent = tree.job.waitUntilFinished(events, 20_000);
await failed;
// Not based on the job's events, because the event of the first attempt may arrive after this.
const completed = new Promise((done) => worker.on("completed", (job) => job.id === plain.id && done()));
await plain.retry();
await completed;
await parent;
await queue.getMetrics("completed");
await worker.close();

const spare = await queue.add("spare", {});
await spare.remove();
await queue.add("spare", {});
await queue.drain(true);
await queue.clean(0, 100, "completed");
await queue.retryJobs();
await queue.obliterate({ force: true });
await Promise.all([queue.close(), events.close(), flow.close()]);
