// Unwraps a webhook with OpenAI's SDK for Node; its argument is the folder that holds the SDK.
// In: {"secret", "headers", "body"} on standard input. Out: the event's type and id, and which
// tampered parts were refused.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { OpenAI } = createRequire(join(process.argv[2], "index.js"))("openai");
const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ apiKey: "any", webhookSecret: secret });
const event = await client.webhooks.unwrap(body, headers);

const stamp = String(Number(headers["webhook-timestamp"]) + 1);
const tampered = {
  body: [body.replace('"failed":0', '"failed":1'), {}],
  "webhook-id": [body, { "webhook-id": "evt_other" }],
  "webhook-timestamp": [body, { "webhook-timestamp": stamp }],
  "webhook-signature": [body, { "webhook-signature": "v1,AAAA" }],
};
const refused = [];
for (const [part, [text, changed]] of Object.entries(tampered)) {
  try {
    await client.webhooks.unwrap(text, { ...headers, ...changed });
  } catch (error) {
    if (error instanceof OpenAI.InvalidWebhookSignatureError) refused.push(part);
    else throw error;
  }
}
console.log(JSON.stringify({ type: event.type, id: event.id, refused }));
