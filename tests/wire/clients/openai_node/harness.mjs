// What every operation stands on: the SDK, the clients, small inputs, and waiting.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

export { operation } from "../operations.mjs";

export const CHAT = "/v1/chat/completions";
const IN_FLIGHT = new Set(["validating", "in_progress", "finalizing", "cancelling"]);
export const AWKWARD = 'tear\u2028here\u2029or\u0085there \u{1f40b} naïve 数据 "quoted" \\ back';

// The SDK of that folder; its class carries the classes of its errors.
export async function loadSdk(home) {
  const sdk = createRequire(join(home, "index.js"))("openai");
  return { OpenAI: sdk.OpenAI, toFile: sdk.toFile };
}

// The server under test, as one user sees it.
export class World {
  #finished;

  constructor(sdk, where) {
    this.sdk = sdk;
    this.url = where.url;
    this.key = where.key;
    this.model = where.model;
    this.client = this.clientFor(where.key);
    this.stranger = this.clientFor(where.stranger_key);
    this.crowded = this.clientFor(where.crowded_key);
  }

  // The SDK with another key, as its users set it up.
  clientFor(apiKey, options = {}) {
    return new this.sdk.OpenAI({ apiKey, baseURL: `${this.url}/v1`, timeout: 30_000, ...options });
  }

  // A new file.
  async file(text, name = "lines.jsonl", purpose = "batch") {
    return this.client.files.create({ file: await this.sdk.toFile(Buffer.from(text), name), purpose });
  }

  // A batch over these lines.
  async create(text, options = {}) {
    const { id } = await this.file(text);
    const given = { input_file_id: id, endpoint: CHAT, completion_window: "24h", ...options };
    return this.client.batches.create(given);
  }

  // Deletes a file; release 5 renamed the method.
  async deleted(id) {
    return this.client.files.delete ? this.client.files.delete(id) : this.client.files.del(id);
  }

  // The batch once it has ended.
  async ended(batch) {
    return this.until(batch, (seen) => !IN_FLIGHT.has(seen.status));
  }

  // The batch once this holds of it.
  async until(batch, holds, seconds = 30) {
    const last = performance.now() + seconds * 1000;
    for (;;) {
      const seen = await this.client.batches.retrieve(batch.id);
      if (holds(seen)) return seen;
      assert(performance.now() < last, `after ${seconds} s: ${JSON.stringify(seen)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  // The result lines of a file.
  async lines(id) {
    const content = await this.client.files.content(id);
    return (await content.text()).split("\n").filter(Boolean).map((each) => JSON.parse(each));
  }

  // Chat lines whose ids and texts are awkward, each with a text of its own.
  chat(count, start = 0) {
    return range(count, start).map((n) => this.line(customId(n), `say ${n}: ${AWKWARD}`)).join("");
  }

  // Chat lines that the simulated engine takes a minute for.
  slowChat(count) {
    return range(count).map((n) => this.line(`slow-${n}`, `!fault:slow=60 ${n}`)).join("");
  }

  // One chat line that says this, and differs from a good one in the fields.
  line(custom_id, content = "hi", fields = {}) {
    const body = { model: this.model, messages: [{ role: "user", content }] };
    return JSON.stringify({ custom_id, method: "POST", url: CHAT, body, ...fields }) + "\n";
  }

  // A batch of three awkward lines that has ended well.
  async finished() {
    this.#finished ??= await this.ended(await this.create(this.chat(3), { metadata: { which: "finished" } }));
    return this.#finished;
  }
}

export function customId(n) {
  return `row-${n} ${AWKWARD}`;
}

export function range(count, start = 0) {
  return Array.from({ length: count }, (_, n) => start + n);
}

// All that a list brings, over its pages.
export async function all(list) {
  const found = [];
  for await (const each of list) found.push(each);
  return found;
}

// The SDK's error of a refused call: exactly of this class, with this code and param.
export async function refused(world, kind, code, param, call) {
  const error = await call.then(() => null, (problem) => problem);
  assert(error, "not refused");
  assert.equal(error.constructor, world.sdk.OpenAI[kind], String(error.stack));
  assert.deepEqual([error.code ?? null, error.param ?? null], [code, param], error.message);
  assert.equal(error.type, "invalid_request_error");
  assert(error.message);
  assert(error.requestID ?? error.request_id, "no request id");
  return error;
}
