// Operations of the Batch Jobs API: create, get, inline outputs, cancel, delete.

import assert from "node:assert/strict";
import {
  assertUuid, chat, chatBody, customId, operation, range, refused, refusedChat, slowChat, withinAMinute,
} from "./harness.mjs";

const CHAT = "/v1/chat/completions";

operation("jobs.create_from_file", async (world) => {
  const metadata = { job_type: "testing", "Größe": "数据" };
  const inputFiles = [await world.upload(chat(4))];
  const job = await world.client.batch.jobs.create({
    inputFiles, endpoint: CHAT, model: world.model, metadata, timeoutHours: 1,
  });
  assertUuid(job.id);
  assert.equal(job.object, "batch");
  assert.deepEqual(job.inputFiles, inputFiles);
  assert(["QUEUED", "RUNNING", "SUCCESS"].includes(job.status), job.status);
  assert.deepEqual([job.totalRequests, job.endpoint, job.model], [4, CHAT, world.model]);
  assert.deepEqual(job.metadata, metadata);
  assert.deepEqual(job.errors, []);
  assert(withinAMinute(job.createdAt));
  const done = await world.ended(job);
  assert.equal(done.status, "SUCCESS");
  assert.deepEqual(
    [done.totalRequests, done.completedRequests, done.succeededRequests, done.failedRequests], [4, 4, 4, 0],
  );
  assert(done.createdAt <= done.startedAt && done.startedAt <= done.completedAt);
  assert.equal(done.errorFile, null);
  const lines = await world.lines(done.outputFile);
  assert.deepEqual(lines.map((line) => line.custom_id), range(4).map(customId));
  for (const line of lines) {
    assert.equal(line.error, null);
    assert.equal(line.response.status_code, 200);
    assert(line.response.body.choices[0].message.content);
  }
});

operation("jobs.create_from_files", async (world) => {
  const inputFiles = [await world.upload(chat(2)), await world.upload(chat(3, 2).trimEnd())];
  const job = await world.client.batch.jobs.create({ inputFiles, endpoint: CHAT, model: world.model });
  assert.deepEqual([job.inputFiles, job.totalRequests], [inputFiles, 5]);
  const lines = await world.lines((await world.ended(job)).outputFile);
  assert.deepEqual(lines.map((line) => line.custom_id), range(5).map(customId));
});

operation("jobs.create_inline", async (world) => {
  const requests = range(3).map((n) => ({ customId: customId(n), body: chatBody(n) }));
  const job = await world.client.batch.jobs.create({ requests, endpoint: CHAT, model: world.model });
  assert.deepEqual([job.inputFiles, job.totalRequests], [[], 3]);
  const done = await world.ended(job);
  assert.deepEqual(done.outputs.map((line) => line.custom_id), range(3).map(customId));
  assert.deepEqual(await world.lines(done.outputFile), done.outputs);
});

// As Mistral's documentation writes it: the SDK drops `custom_id`, and the index stands for it.
operation("jobs.create_inline_as_documented", async (world) => {
  const requests = range(2).map((n) => ({ custom_id: customId(n), body: chatBody(n) }));
  const job = await world.client.batch.jobs.create({ requests, endpoint: CHAT, model: world.model });
  const done = await world.ended(job);
  assert.deepEqual(done.outputs.map((line) => line.custom_id), ["0", "1"]);
});

operation("jobs.create_with_nulls", async (world) => {
  const inputFiles = [await world.upload(chat(1))];
  const nulls = { requests: null, agentId: null, metadata: null };
  const job = await world.client.batch.jobs.create({ inputFiles, endpoint: CHAT, model: world.model, ...nulls });
  assert.equal((await world.ended(job)).status, "SUCCESS");
  const requests = [{ customId: null, body: chatBody(0) }];
  const inline = await world.client.batch.jobs.create({
    requests, inputFiles: null, endpoint: CHAT, model: world.model, agentId: null, metadata: null,
  });
  assert.equal((await world.ended(inline)).status, "SUCCESS");
});

operation("jobs.get_outputs_inline", async (world) => {
  const { id: jobId, outputFile } = await world.finished();
  const job = await world.client.batch.jobs.get({ jobId, inline: true });
  assert.deepEqual(job.outputs, await world.lines(outputFile));
  assert.equal((await world.client.batch.jobs.get({ jobId, inline: false })).outputs, null);
});

operation("jobs.failed_lines", async (world) => {
  const job = await world.ended(await world.create(chat(2) + refusedChat("bad") + chat(1, 2)));
  assert.deepEqual([job.status, job.succeededRequests, job.failedRequests], ["SUCCESS", 3, 1]);
  const [line] = await world.lines(job.errorFile);
  assert.deepEqual([line.custom_id, line.response.status_code, line.error.status_code], ["bad", 422, 422]);
  assert.equal(typeof line.error.message, "string");
});

operation("jobs.bad_file", async (world) => {
  const job = await world.ended(await world.create(chat(2) + '{"custom_id": "x"}\n{"custom_id": "y"}\n'));
  assert.deepEqual([job.status, job.outputFile, job.errorFile], ["FAILED", null, null]);
  assert.equal(job.errors.reduce((sum, error) => sum + error.count, 0), 2);
  assert(job.errors[0].message.includes("3"), job.errors[0].message);
});

operation("jobs.cancel", async (world) => {
  const job = await world.create(chat(5) + slowChat(3));
  await world.reached(job, 5);
  const stopped = await world.client.batch.jobs.cancel({ jobId: job.id });
  assert(["CANCELLATION_REQUESTED", "CANCELLED"].includes(stopped.status), stopped.status);
  const done = await world.ended(job);
  assert.deepEqual([done.status, done.succeededRequests, done.failedRequests], ["CANCELLED", 5, 3]);
  const lost = await world.lines(done.errorFile);
  assert.deepEqual(lost.map((line) => [line.custom_id, line.error.code]), range(3).map((n) => [`slow-${n}`, "cancelled"]));
  assert.equal((await world.client.batch.jobs.cancel({ jobId: job.id })).status, "CANCELLED");
});

operation("jobs.cancel_finished", async (world) => {
  await refused(world, 409, world.client.batch.jobs.cancel({ jobId: (await world.finished()).id }));
});

operation("jobs.delete", { since: "2.2.0" }, async (world) => {
  const { id: jobId, outputFile } = await world.ended(await world.create(chat(1)));
  const gone = await world.client.batch.jobs.delete({ jobId });
  assert.deepEqual([gone.id, gone.object, gone.deleted], [jobId, "batch", true]);
  await refused(world, 404, world.client.batch.jobs.get({ jobId }));
  await refused(world, 404, world.client.batch.jobs.delete({ jobId }));
  assert.equal((await world.lines(outputFile)).length, 1);
});

operation("jobs.delete_unfinished", { since: "2.2.0" }, async (world) => {
  const { id: jobId } = await world.create(slowChat(2));
  assert.equal((await world.client.batch.jobs.delete({ jobId })).deleted, true);
  await refused(world, 404, world.client.batch.jobs.get({ jobId }));
});
