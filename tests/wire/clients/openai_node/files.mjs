// Operations of the Files API.

import assert from "node:assert/strict";
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { all, customId, operation, range, refused } from "./harness.mjs";

operation("files.upload", async (world) => {
  const text = world.chat(2);
  const file = await world.file(text);
  assert.deepEqual([file.object, file.purpose, file.bytes], ["file", "batch", Buffer.byteLength(text)]);
  assert.deepEqual([file.filename, file.status], ["lines.jsonl", "processed"]);
});

operation("files.upload_a_stream", async (world) => {
  const folder = mkdtempSync(join(tmpdir(), "wire-"));
  try {
    const path = join(folder, "größe 数据.jsonl");
    writeFileSync(path, world.chat(2));
    const file = await world.client.files.create({ file: createReadStream(path), purpose: "batch" });
    assert.deepEqual([file.filename, file.bytes], ["größe 数据.jsonl", Buffer.byteLength(world.chat(2))]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

operation("files.list", async (world) => {
  const made = [];
  for (const n of range(5)) made.push((await world.file(world.chat(1, n))).id);
  const listed = (await all(world.client.files.list({ limit: 2 }))).map((file) => file.id);
  assert.deepEqual(listed.slice(0, 5), made.toReversed());
  assert.equal(new Set(listed).size, listed.length);
  const outputs = await all(world.client.files.list({ purpose: "batch_output" }));
  assert(outputs.every((file) => file.purpose === "batch_output"));
});

operation("files.retrieve", async (world) => {
  const { id } = await world.file(world.chat(2), "größe.jsonl");
  const file = await world.client.files.retrieve(id);
  assert.deepEqual([file.id, file.object, file.filename], [id, "file", "größe.jsonl"]);
});

operation("files.wait_for_processing", async (world) => {
  const { id } = await world.file(world.chat(1));
  assert.equal((await world.client.files.waitForProcessing(id, { maxWait: 1000 })).id, id);
});

operation("files.delete", async (world) => {
  const { id } = await world.file(world.chat(1));
  const gone = await world.deleted(id);
  assert.deepEqual([gone.id, gone.object, gone.deleted], [id, "file", true]);
  await refused(world, "NotFoundError", null, "id", world.client.files.retrieve(id));
});

operation("files.delete_one_in_use", async (world) => {
  const batch = await world.create(world.slowChat(2));
  await refused(world, "ConflictError", null, null, world.deleted(batch.input_file_id));
  await world.client.batches.cancel(batch.id);
});

operation("files.content", async (world) => {
  const text = world.chat(3);
  const content = await world.client.files.content((await world.file(text)).id);
  assert.equal(await content.text(), text);
  const lines = await world.lines((await world.finished()).output_file_id);
  assert.deepEqual(lines.map((line) => line.custom_id), range(3).map(customId));
});
