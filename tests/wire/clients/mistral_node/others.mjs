// Models, errors, addresses, and one job through each of the ten endpoints.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { bytes, chat, chatBody, operation, refused, slowChat } from "./harness.mjs";

const CHAT = "/v1/chat/completions";

operation("models.list", async (world) => {
  const card = (await world.client.models.list()).data.find((each) => each.id === world.model);
  assert.equal(card.type, "base");
  assert(card.capabilities);
});

operation("models.retrieve", async (world) => {
  const card = await world.client.models.retrieve({ modelId: world.model });
  assert.deepEqual([card.id, card.type], [world.model, "base"]);
  await refused(world, 404, world.client.models.retrieve({ modelId: "no-such-model" }));
});

operation("refusals.wrong_key", async (world) => {
  const intruder = world.clientFor("bm_wrong");
  await refused(world, 401, intruder.batch.jobs.list());
  await refused(world, 401, intruder.files.list());
  await refused(world, 401, intruder.models.list());
});

operation("refusals.another_tenant", async (world) => {
  const { id: jobId, outputFile: fileId } = await world.finished();
  await refused(world, 404, world.stranger.batch.jobs.get({ jobId }));
  await refused(world, 404, world.stranger.batch.jobs.cancel({ jobId }));
  await refused(world, 404, world.stranger.files.retrieve({ fileId }));
  await refused(world, 404, world.stranger.files.download({ fileId }));
});

operation("refusals.unknown_ids", async (world) => {
  for (const id of [randomUUID(), "no-uuid", "naïve 数据", "a/b"]) {
    await refused(world, 404, world.client.files.retrieve({ fileId: id }));
    await refused(world, 404, world.client.batch.jobs.get({ jobId: id }));
  }
  await refused(world, 404, create(world, { inputFiles: [randomUUID()] }));
});

operation("refusals.bad_jobs", async (world) => {
  const inputFiles = [await world.upload(chat(1))];
  for (const options of [
    {},
    { inputFiles: [] },
    { inputFiles, requests: [{ body: chatBody(0) }] },
    { inputFiles, agentId: "ag_1" },
    { inputFiles, model: null },
    { inputFiles, model: "no-such-model" },
    { inputFiles, endpoint: "/v1/nothing" },
    { inputFiles, timeoutHours: 0 },
    { inputFiles, timeoutHours: 169 },
    { inputFiles, metadata: { k: "v".repeat(513) } },
  ]) await refused(world, 422, create(world, options));
});

operation("refusals.file_in_use", async (world) => {
  const job = await world.create(slowChat(2));
  await refused(world, 409, world.client.files.delete({ fileId: job.inputFiles[0] }));
  await world.client.batch.jobs.cancel({ jobId: job.id });
});

operation("refusals.upload_of_no_lines", async (world) => {
  for (const text of ["", "hello\n", "[1, 2]\n"]) {
    const file = { fileName: "bad.jsonl", content: bytes(text) };
    await refused(world, 400, world.client.files.upload({ file, purpose: "batch" }));
    await refused(world, 400, world.client.files.upload({ file }));
  }
});

operation("addresses.with_slash_or_v1", async (world) => {
  const { id: jobId } = await world.finished();
  for (const url of [`${world.url}/`, `${world.url}/v1`]) {
    const client = world.clientFor(world.key, url);
    assert.equal((await client.batch.jobs.get({ jobId })).status, "SUCCESS");
  }
});

operation("endpoints.all_ten", async (world) => {
  const talk = [{ role: "user", content: "good or bad?" }];
  for (const [endpoint, body, key] of [
    [CHAT, { messages: talk }, "choices"],
    ["/v1/embeddings", { input: "one" }, "data"],
    ["/v1/fim/completions", { prompt: "def f(" }, "choices"],
    ["/v1/moderations", { input: "one" }, "results"],
    ["/v1/chat/moderations", { input: [talk] }, "results"],
    ["/v1/ocr", { document: { type: "document_url", document_url: "https://example.com/a.pdf" } }, "pages"],
    ["/v1/classifications", { input: "one" }, "results"],
    ["/v1/chat/classifications", { input: { messages: talk } }, "results"],
    ["/v1/conversations", { inputs: "hello" }, "outputs"],
    ["/v1/audio/transcriptions", { file_url: "https://example.com/a.mp3" }, "text"],
  ]) {
    const job = await world.ended(await create(world, { endpoint, requests: [{ body }] }));
    assert.deepEqual([job.endpoint, job.status, job.succeededRequests], [endpoint, "SUCCESS", 1]);
    assert(job.outputs[0].response.body[key], endpoint);
  }
});

function create(world, options) {
  return world.client.batch.jobs.create({ endpoint: CHAT, model: world.model, ...options });
}
