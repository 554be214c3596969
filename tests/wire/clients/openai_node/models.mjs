// Operations of the Models API.

import assert from "node:assert/strict";
import { all, operation, refused } from "./harness.mjs";

operation("models.list", async (world) => {
  const cards = await all(world.client.models.list());
  const ids = cards.map((card) => card.id);
  assert(ids.includes(world.model) && ids.includes(`org/${world.model}`), ids.join());
  assert(cards.every((card) => card.object === "model" && Number.isInteger(card.created) && card.owned_by));
});

operation("models.retrieve", async (world) => {
  for (const name of [world.model, `org/${world.model}`]) {
    assert.equal((await world.client.models.retrieve(name)).id, name);
  }
});

operation("models.retrieve_unknown", async (world) => {
  for (const name of ["gpt-9", "org/gpt-9"]) {
    await refused(world, "NotFoundError", "model_not_found", "model", world.client.models.retrieve(name));
  }
});
