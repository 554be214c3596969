// What every operation stands on: the SDK, the client, two other keys, small inputs, and waiting.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

export { operation } from "../operations.mjs";

export const LARGE = 600;
const IN_FLIGHT = new Set(["QUEUED", "RUNNING", "CANCELLATION_REQUESTED"]);
const AWKWARD = 'tear\u2028here\u2029or\u0085there \u{1f40b} naïve 数据 "quoted" \\ back';

// The SDK of that folder: 1.x is CommonJS, 2.x is ESM, and Node loads both.
export async function loadSdk(home) {
  const require = createRequire(join(home, "index.js"));
  const name = "@mistralai/mistralai";
  const errors = name + (require(`${name}/package.json`).version < "2" ? "/models/errors/index.js" : "/models/errors");
  const [sdk, { SDKError }] = await Promise.all([name, errors].map((each) => import(require.resolve(each))));
  return { Mistral: sdk.Mistral, SDKError };
}

// The server under test, as one user sees it.
export class World {
  #made = 0;
  #finished;
  #large;

  constructor(sdk, where) {
    this.sdk = sdk;
    this.url = where.url;
    this.key = where.key;
    this.model = where.model;
    this.client = this.clientFor(where.key);
    this.colleague = this.clientFor(where.colleague_key);
    this.stranger = this.clientFor(where.stranger_key);
  }

  // The SDK with another key or address.
  clientFor(key, url = this.url) {
    return new this.sdk.Mistral({ apiKey: key, serverURL: url, timeoutMs: 30_000 });
  }

  // The id of a new batch file.
  async upload(text, fileName = "lines.jsonl") {
    const file = await this.client.files.upload({ file: { fileName, content: bytes(text) }, purpose: "batch" });
    return file.id;
  }

  // A job over these lines.
  async create(text, options = {}) {
    const inputFiles = [await this.upload(text)];
    return this.client.batch.jobs.create({
      inputFiles,
      endpoint: "/v1/chat/completions",
      model: this.model,
      ...options,
    });
  }

  // The job once it has ended.
  async ended(job) {
    return this.#until(job, (seen) => !IN_FLIGHT.has(seen.status));
  }

  // The job once so many lines have an outcome.
  async reached(job, count) {
    return this.#until(job, (seen) => seen.completedRequests >= count);
  }

  async #until(job, holds, seconds = 30) {
    const last = performance.now() + seconds * 1000;
    for (;;) {
      const seen = await this.client.batch.jobs.get({ jobId: job.id });
      if (holds(seen)) return seen;
      assert(performance.now() < last, `after ${seconds} s: ${JSON.stringify(seen)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  // The whole of a file.
  async content(fileId) {
    return Buffer.concat(await chunks(await this.client.files.download({ fileId })));
  }

  // The result lines of a file.
  async lines(fileId) {
    return parsed((await this.content(fileId)).toString());
  }

  // A word nobody used before.
  mark() {
    this.#made += 1;
    return `mark-${this.#made}-${Date.now()}`;
  }

  // A job of three awkward lines that has ended well.
  async finished() {
    this.#finished ??= await this.ended(await this.create(chat(3), { metadata: { which: "finished" } }));
    return this.#finished;
  }

  // A job of `LARGE` awkward lines that has ended well; its result comes in many chunks.
  async large() {
    this.#large ??= await this.ended(await this.create(chat(LARGE)));
    return this.#large;
  }
}

// Chat lines whose ids and texts are awkward, each with a text of its own.
export function chat(count, start = 0) {
  return range(count, start).map((n) => line(customId(n), chatBody(n))).join("");
}

// Chat lines that the simulated engine takes a minute for.
export function slowChat(count) {
  return range(count).map((n) => line(`slow-${n}`, saying(`!fault:slow=60 ${n}`))).join("");
}

// A chat line that the simulated engine refuses with 422.
export function refusedChat(id) {
  return line(id, saying("!status:422"));
}

export function customId(n) {
  return `row-${n} ${AWKWARD}`;
}

export function chatBody(n) {
  return saying(`say ${n}: ${AWKWARD}`);
}

export function bytes(text) {
  return new TextEncoder().encode(text);
}

export function range(count, start = 0) {
  return Array.from({ length: count }, (_, n) => start + n);
}

export function parsed(text) {
  return text.split("\n").filter(Boolean).map((each) => JSON.parse(each));
}

export function withinAMinute(seconds, expected = Date.now() / 1000) {
  return Math.abs(seconds - expected) < 60;
}

// What a stream brings, piece by piece.
export async function chunks(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(Buffer.from(piece));
  return pieces;
}

// The SDK's error of a call that the server refuses with this status.
export async function refused(world, status, call) {
  const error = await call.then(() => null, (problem) => problem);
  assert(error, "not refused");
  assert(error instanceof world.sdk.SDKError, String(error.stack));
  assert.equal(error.statusCode, status, error.body);
  const body = JSON.parse(error.body);
  assert.equal(body.object, "error");
  assert(body.message);
  if (status === 422) for (const detail of body.detail) assert(detail.loc && detail.msg && detail.type, error.body);
  return error;
}

export function assertUuid(id) {
  assert.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
}

function line(custom_id, body) {
  return JSON.stringify({ custom_id, body }) + "\n";
}

function saying(content) {
  return { messages: [{ role: "user", content }], max_tokens: 16 };
}
