// The list of batches and its pages.

import assert from "node:assert/strict";
import { all, operation } from "./harness.mjs";

const CROWD = 250;

// The SDK follows the pages by itself, and ends.
operation("listing.all_batches", async (world) => {
  const ids = (await all(world.crowded.batches.list())).map((batch) => batch.id);
  assert.deepEqual([ids.length, new Set(ids).size], [CROWD, CROWD]);
});

operation("listing.pages_of_a_hundred", async (world) => {
  const pages = [await world.crowded.batches.list({ limit: 100 })];
  while (pages.at(-1).hasNextPage() && pages.length < 10) pages.push(await pages.at(-1).getNextPage());
  assert.deepEqual(pages.map((page) => page.data.length).filter(Boolean), [100, 100, 50]);
});

operation("listing.after_the_last", async (world) => {
  const last = (await all(world.crowded.batches.list({ limit: 100 }))).at(-1).id;
  for (const after of [last, "batch_unknown", `batch_${"0".repeat(32)}`]) {
    assert.deepEqual(await all(world.crowded.batches.list({ after })), []);
  }
});

operation("listing.of_one_tenant", async (world) => {
  const { id } = await world.finished();
  const ids = async (client) => (await all(client.batches.list())).map((batch) => batch.id);
  assert((await ids(world.client)).includes(id));
  assert(!(await ids(world.stranger)).includes(id));
});
