// Operations on batches: create, retrieve, results, cancel.

import assert from "node:assert/strict";
import { AWKWARD, CHAT, customId, operation, range } from "./harness.mjs";

operation("batches.create", async (world) => {
  const metadata = { job_type: "testing", "Größe": "数据" };
  const { id } = await world.file(world.chat(4));
  const batch = await world.client.batches.create({
    input_file_id: id, endpoint: CHAT, completion_window: "24h", metadata,
  });
  assert.match(batch.id, /^batch_[0-9a-f]{32}$/);
  assert.deepEqual([batch.object, batch.endpoint, batch.input_file_id], ["batch", CHAT, id]);
  assert.deepEqual(batch.metadata, metadata);
  assert.equal(batch.completion_window, "24h");
  assert.equal(batch.expires_at, batch.created_at + 86400);
  assert.equal(batch.request_counts.total, 4);
  assert.equal(batch.errors, null);
});

operation("batches.run_to_the_end", async (world) => {
  const done = await world.ended(await world.create(world.chat(4)));
  assert.equal(done.status, "completed");
  assert.deepEqual(done.request_counts, { total: 4, completed: 4, failed: 0 });
  assert(done.created_at <= done.in_progress_at && done.in_progress_at <= done.completed_at);
  assert.deepEqual([done.error_file_id, done.failed_at, done.expired_at, done.cancelled_at], [null, null, null, null]);
  const lines = await world.lines(done.output_file_id);
  assert.deepEqual(lines.map((line) => line.custom_id), range(4).map(customId));
  for (const line of lines) {
    assert.deepEqual([line.error, line.response.status_code], [null, 200]);
    assert(line.response.body.choices[0].message.content.includes(AWKWARD));
  }
});

operation("batches.usage_and_model", async (world) => {
  const { model, usage } = await world.finished();
  assert.equal(model, world.model);
  assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
  assert(usage.total_tokens > 0);
});

operation("batches.failed_lines", async (world) => {
  const done = await world.ended(await world.create(world.chat(3) + world.line("bad", "!status:422")));
  assert.deepEqual(done.request_counts, { total: 4, completed: 3, failed: 1 });
  const [line] = await world.lines(done.error_file_id);
  assert.deepEqual([line.custom_id, line.error, line.response.status_code], ["bad", null, 422]);
});

operation("batches.bad_lines", async (world) => {
  const bad = world.line("x", "hi", { method: "GET" }) + "nonsense\n" + world.line("y", "hi", { url: "/v1/embeddings" });
  const failed = await world.ended(await world.create(world.chat(1) + bad));
  assert.deepEqual([failed.status, failed.output_file_id, failed.error_file_id], ["failed", null, null]);
  assert.deepEqual(
    failed.errors.data.map((error) => [error.line, error.code, error.param]),
    [[2, "invalid_value", "method"], [3, "invalid_json_line", null], [4, "invalid_url", "url"]],
  );
});

operation("batches.unknown_input_file", async (world) => {
  const batch = await world.client.batches.create({
    input_file_id: "file-abc123", endpoint: CHAT, completion_window: "24h",
  });
  const failed = await world.ended(batch);
  const [error] = failed.errors.data;
  assert.deepEqual([failed.status, failed.input_file_id], ["failed", "file-abc123"]);
  assert.deepEqual([error.code, error.param, error.line], ["invalid_request", "file_id", null]);
});

operation("batches.cancel", async (world) => {
  const batch = await world.create(world.chat(5) + world.slowChat(3));
  await world.until(batch, (seen) => seen.request_counts.completed === 5);
  const stopped = await world.client.batches.cancel(batch.id);
  assert(["cancelling", "cancelled"].includes(stopped.status), stopped.status);
  const done = await world.ended(batch);
  assert.deepEqual([done.status, done.request_counts], ["cancelled", { total: 8, completed: 5, failed: 3 }]);
  const lost = await world.lines(done.error_file_id);
  assert.deepEqual(
    lost.map((line) => [line.custom_id, line.response, line.error.code]),
    range(3).map((n) => [`slow-${n}`, null, "batch_cancelled"]),
  );
  assert.equal((await world.client.batches.cancel(batch.id)).status, "cancelled");
});

operation("batches.extensions", async (world) => {
  const { id } = await world.file(world.chat(1));
  const batch = await world.client.batches.create(
    {
      input_file_id: id,
      endpoint: CHAT,
      completion_window: "1h",
      priority: 3,
      output_expires_after: { anchor: "created_at", seconds: 3600 },
    },
    { headers: { "x-batchmill-on_invalid": "quarantine" } },
  );
  assert.deepEqual([batch.priority, batch.on_invalid, batch.completion_window], [3, "quarantine", "1h"]);
  assert.equal(batch.progress.done + batch.progress.left, 1);
  const output = await world.client.files.retrieve((await world.ended(batch)).output_file_id);
  assert.equal(output.expires_at, output.created_at + 3600);
});

operation("batches.raw_response", async (world) => {
  const { id } = await world.finished();
  const { data, response } = await world.client.batches.retrieve(id).withResponse();
  assert.equal(data.id, id);
  assert(response.headers.get("x-request-id"));
  assert.equal(response.headers.get("content-type"), "application/json");
});
