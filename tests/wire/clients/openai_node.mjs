// Runs operations of OpenAI's Node SDK against a server; releases 4.x to 7.x.
//
// The argument is the folder that holds the SDK's node_modules. Standard input and output are
// those of openai_py.py: one JSON object in, one JSON line for each operation out.

import { readFileSync } from "node:fs";
import { World, loadSdk } from "./openai_node/harness.mjs";
import { report } from "./operations.mjs";
import "./openai_node/batches.mjs";
import "./openai_node/files.mjs";
import "./openai_node/listing.mjs";
import "./openai_node/models.mjs";
import "./openai_node/refusals.mjs";

const where = JSON.parse(readFileSync(0, "utf8"));
const sdk = await loadSdk(process.argv[2]);
await report(new World(sdk, where), where.operations);
