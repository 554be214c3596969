// The job list: its filters, its order and its pages.

import assert from "node:assert/strict";
import { chat, operation, range, slowChat } from "./harness.mjs";

operation("listing.plain", async (world) => {
  const job = await world.create(chat(1));
  for (const listed of [await world.client.batch.jobs.list(), await world.client.batch.jobs.list({})]) {
    assert.equal(listed.object, "list");
    assert(listed.data.some((each) => each.id === job.id));
    assert(listed.total >= 1);
    assert(listed.data.every((each) => !each.outputs));
  }
});

operation("listing.pages_and_order", async (world) => {
  const word = world.mark();
  const made = [];
  for (const _ of range(3)) made.push((await world.create(chat(1), { metadata: { word } })).id);
  const pages = [];
  for (const page of range(3)) {
    pages.push(await world.client.batch.jobs.list({ metadata: { word }, page, pageSize: 2 }));
  }
  assert.deepEqual(pages.map((page) => page.total), [3, 3, 3]);
  assert.deepEqual(pages.map((page) => (page.data ?? []).length), [2, 1, 0]);
  assert.deepEqual(await listed(world, { metadata: { word }, orderBy: "created" }), made);
  assert.deepEqual(await listed(world, { metadata: { word }, orderBy: "-created" }), made.toReversed());
});

operation("listing.by_metadata", async (world) => {
  const word = world.mark();
  const metadata = { word, "job type": "a&b=c d+e", "größe": "数据 100%" };
  const job = await world.create(chat(1), { metadata });
  assert.deepEqual(await listed(world, { metadata }), [job.id]);
  assert.deepEqual(await listed(world, { metadata: { word, "job type": "other" } }), []);
});

operation("listing.by_status", async (world) => {
  const done = await world.finished();
  const running = await world.create(slowChat(2));
  assert((await listed(world, { status: ["SUCCESS"] })).includes(done.id));
  assert((await listed(world, { status: ["QUEUED", "RUNNING"] })).includes(running.id));
  assert(!(await listed(world, { status: ["QUEUED", "RUNNING"] })).includes(done.id));
  await world.client.batch.jobs.cancel({ jobId: running.id });
  await world.ended(running);
  assert((await listed(world, { status: ["CANCELLED"] })).includes(running.id));
});

operation("listing.by_model_and_agent", async (world) => {
  const job = await world.create(chat(1));
  assert((await listed(world, { model: world.model })).includes(job.id));
  assert.deepEqual(await listed(world, { model: "no-such-model" }), []);
  assert.deepEqual(await listed(world, { agentId: "ag_1" }), []);
});

operation("listing.created_after", async (world) => {
  const job = await world.create(chat(1));
  const at = (seconds) => ({ createdAfter: new Date((job.createdAt + seconds) * 1000) });
  assert((await listed(world, at(-2))).includes(job.id));
  assert(!(await listed(world, at(2))).includes(job.id));
});

operation("listing.created_by_me", async (world) => {
  const job = await world.create(chat(1));
  assert((await listed(world, { createdByMe: true })).includes(job.id));
  assert((await listed(world, {}, world.colleague)).includes(job.id));
  assert(!(await listed(world, { createdByMe: true }, world.colleague)).includes(job.id));
});

async function listed(world, filters, client = world.client) {
  return ((await client.batch.jobs.list(filters)).data ?? []).map((job) => job.id);
}
