// Errors: the SDK's class, code and param, and whether it tries again.

import assert from "node:assert/strict";
import { CHAT, operation, range, refused } from "./harness.mjs";

operation("refusals.wrong_key", async (world) => {
  const intruder = world.clientFor("sk-wrong");
  for (const things of [intruder.batches, intruder.files, intruder.models]) {
    await refused(world, "AuthenticationError", "invalid_api_key", null, things.list());
  }
});

operation("refusals.another_tenant", async (world) => {
  const { id, output_file_id } = await world.finished();
  const { batches, files } = world.stranger;
  await refused(world, "NotFoundError", null, null, batches.retrieve(id));
  await refused(world, "NotFoundError", null, null, batches.cancel(id));
  await refused(world, "NotFoundError", null, "id", files.retrieve(output_file_id));
  await refused(world, "NotFoundError", null, "id", files.content(output_file_id));
});

operation("refusals.unknown_ids", async (world) => {
  for (const unknown of ["file-abc123", "no-uuid"]) {
    await refused(world, "NotFoundError", null, "id", world.client.files.retrieve(unknown));
    await refused(world, "NotFoundError", null, null, world.client.batches.retrieve(unknown));
    await refused(world, "NotFoundError", null, null, world.client.batches.cancel(unknown));
  }
});

operation("refusals.bad_fields", async (world) => {
  const many = Object.fromEntries(range(17).map((n) => [`k${n}`, "v"]));
  for (const [code, param, options] of [
    ["invalid_value", "endpoint", { endpoint: "/v1/nothing" }],
    ["invalid_value", "completion_window", { completion_window: "48x" }],
    ["invalid_value", "completion_window", { completion_window: "31d" }],
    ["invalid_type", "metadata.k", { metadata: { k: ["v"] } }],
    ["invalid_value", "metadata", { metadata: many }],
    ["missing_required_parameter", "endpoint", { endpoint: null }],
    ["invalid_type", "priority", { priority: "high" }],
  ]) {
    const given = { input_file_id: "file-abc", endpoint: CHAT, completion_window: "24h", ...options };
    await refused(world, "BadRequestError", code, param, world.client.batches.create(given));
  }
});

operation("refusals.bad_limits", async (world) => {
  for (const limit of [0, 101]) {
    await refused(world, "BadRequestError", "invalid_value", "limit", world.client.batches.list({ limit }));
  }
});

operation("refusals.another_purpose", async (world) => {
  const { id } = await world.file(world.chat(1), "a.jsonl", "fine-tune");
  const given = { input_file_id: id, endpoint: CHAT, completion_window: "24h" };
  await refused(world, "BadRequestError", "invalid_purpose", "input_file_id", world.client.batches.create(given));
});

operation("refusals.upload_of_no_lines", async (world) => {
  await refused(world, "BadRequestError", "empty_file", "file", world.file(""));
  await refused(world, "BadRequestError", "invalid_json_line", "file", world.file("hello\n"));
});

// A 409 is tried again by the SDK unless it is told not to.
operation("refusals.cancel_of_a_finished_batch_is_asked_once", async (world) => {
  const { id } = await world.finished();
  let sent = 0;
  const counted = (...given) => {
    sent += 1;
    return fetch(...given);
  };
  const client = world.clientFor(world.key, { fetch: counted });
  const error = await refused(world, "ConflictError", null, null, client.batches.cancel(id));
  assert(error.message.includes("Cannot cancel a batch with status 'completed'."), error.message);
  assert.equal(sent, 1);
});
