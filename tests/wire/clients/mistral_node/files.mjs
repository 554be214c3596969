// Operations of the Files API.

import assert from "node:assert/strict";
import {
  LARGE, assertUuid, bytes, chat, chunks, customId, operation, parsed, range, refused, withinAMinute,
} from "./harness.mjs";

operation("files.upload_bytes", async (world) => {
  const content = bytes(chat(3));
  const file = await world.client.files.upload({ file: { fileName: "bytes.jsonl", content }, purpose: "batch" });
  assertUuid(file.id);
  assert.equal(file.object, "file");
  assert.equal(file.sizeBytes, content.length);
  assert(withinAMinute(file.createdAt));
  assert.deepEqual([file.filename, file.purpose], ["bytes.jsonl", "batch"]);
  assert.deepEqual([file.sampleType, file.source], ["batch_request", "upload"]);
  assert.equal(file.numLines, 3);
});

operation("files.upload_blob", async (world) => {
  const file = await world.client.files.upload({
    file: new File([chat(2)], "blob.jsonl", { type: "application/jsonl" }),
    purpose: "batch",
  });
  assert.deepEqual([file.filename, file.numLines], ["blob.jsonl", 2]);
  assert.equal((await world.content(file.id)).toString(), chat(2));
});

operation("files.upload_stream", async (world) => {
  const content = new Blob([chat(50)]).stream();
  const file = await world.client.files.upload({ file: { fileName: "stream.jsonl", content }, purpose: "batch" });
  assert.equal(file.numLines, 50);
  assert.equal((await world.content(file.id)).toString(), chat(50));
});

operation("files.upload_unicode_name", async (world) => {
  for (const fileName of ["données 数据 🐋.jsonl", "a;b=c.jsonl"]) {
    const file = await world.client.files.upload({ file: { fileName, content: bytes(chat(1)) }, purpose: "batch" });
    assert.equal(file.filename, fileName);
    assert.equal((await world.client.files.retrieve({ fileId: file.id })).filename, fileName);
  }
});

operation("files.upload_without_purpose", async (world) => {
  const file = await world.client.files.upload({ file: { fileName: "plain.jsonl", content: bytes(chat(1)) } });
  assert.equal(file.purpose, "batch");
});

operation("files.upload_with_expiry", async (world) => {
  const file = await world.client.files.upload({
    file: { fileName: "brief.jsonl", content: bytes(chat(1)) },
    purpose: "batch",
    expiry: 2,
    visibility: "user",
  });
  assert(withinAMinute(file.expiresAt, Date.now() / 1000 + 2 * 3600));
  assert.equal(file.visibility, "user");
});

operation("files.list", async (world) => {
  const id = await world.upload(chat(1));
  for (const listed of [await world.client.files.list(), await world.client.files.list({})]) {
    assert.equal(listed.object, "list");
    assert(listed.data.some((file) => file.id === id));
    assert(listed.total >= 1);
  }
});

operation("files.list_pages", async (world) => {
  const word = world.mark();
  for (const n of range(3)) await world.upload(chat(1), `${word}-${n}.jsonl`);
  const pages = [];
  for (const page of range(3)) pages.push(await world.client.files.list({ search: word, page, pageSize: 2 }));
  assert.deepEqual(pages.map((page) => page.total), [3, 3, 3]);
  assert.deepEqual(pages.map((page) => page.data.length), [2, 1, 0]);
});

operation("files.list_by_each_filter", async (world) => {
  const { outputFile, inputFiles: [input] } = await world.finished();
  const listed = async (filters) => (await world.client.files.list(filters)).data.map((file) => file.id);
  for (const [filters, wanted, unwanted] of [
    [{ sampleType: ["batch_result"] }, outputFile, input],
    [{ sampleType: ["batch_request", "batch_error"] }, input, outputFile],
    [{ source: ["mistral"] }, outputFile, input],
    [{ source: ["upload", "repository"] }, input, outputFile],
    [{ mimetypes: ["application/jsonl"] }, input, null],
    [{ purpose: "batch" }, input, null],
    [{ purpose: "batch", sampleType: ["batch_result"] }, outputFile, input],
    [{ includeTotal: false }, input, null],
  ]) {
    const ids = await listed(filters);
    assert(ids.includes(wanted), JSON.stringify(filters));
    assert(!ids.includes(unwanted), JSON.stringify(filters));
  }
  assert.deepEqual(await listed({ search: "no such name" }), []);
  assert.deepEqual(await listed({ mimetypes: ["image/png"] }), []);
  assert.deepEqual(await listed({ purpose: "ocr" }), []);
});

operation("files.retrieve", async (world) => {
  const { outputFile } = await world.finished();
  const file = await world.client.files.retrieve({ fileId: outputFile });
  assert.deepEqual([file.deleted, file.sampleType, file.source, file.numLines], [false, "batch_result", "mistral", 3]);
  assert.equal(file.sizeBytes, (await world.content(outputFile)).length);
});

operation("files.download", async (world) => {
  const id = await world.upload(chat(100));
  assert.equal((await world.content(id)).toString(), chat(100));
});

operation("files.download_each_byte_by_itself", async (world) => {
  const content = await world.content((await world.large()).outputFile);
  assertLarge([...content].map((byte) => decoded(Uint8Array.of(byte))).join(""));
});

operation("files.download_each_chunk_by_itself", async (world) => {
  const { outputFile } = await world.large();
  const pieces = await chunks(await world.client.files.download({ fileId: outputFile }));
  assert(pieces.length > 1, "this result should come in several chunks");
  assertLarge(pieces.map(decoded).join(""));
});

operation("files.get_signed_url", async (world) => {
  const fileId = await world.upload(chat(10));
  for (const expiry of [undefined, 1, 168]) {
    const { url } = await world.client.files.getSignedUrl({ fileId, expiry });
    assert.equal(await (await fetch(url)).text(), chat(10));
  }
  for (const expiry of [0, 169]) await refused(world, 422, world.client.files.getSignedUrl({ fileId, expiry }));
});

operation("files.delete", async (world) => {
  const fileId = await world.upload(chat(1));
  const gone = await world.client.files.delete({ fileId });
  assert.deepEqual([gone.id, gone.object, gone.deleted], [fileId, "file", true]);
  await refused(world, 404, world.client.files.retrieve({ fileId }));
  await refused(world, 404, world.client.files.download({ fileId }));
  await refused(world, 404, world.client.files.delete({ fileId }));
});

function decoded(piece) {
  return new TextDecoder("utf-8", { fatal: true }).decode(piece);
}

function assertLarge(text) {
  assert(text.endsWith("\n"));
  assert.deepEqual(parsed(text).map((line) => line.custom_id), range(LARGE).map(customId));
}
