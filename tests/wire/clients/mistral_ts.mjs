// Runs operations of Mistral's TypeScript SDK against a server; releases 1.x and 2.x.
//
// The argument is the folder that holds the SDK's node_modules. Standard input and output are
// those of mistral_py.py: one JSON object in, one JSON line for each operation out.

import { readFileSync } from "node:fs";
import { World, loadSdk } from "./mistral_node/harness.mjs";
import { report } from "./operations.mjs";
import "./mistral_node/files.mjs";
import "./mistral_node/jobs.mjs";
import "./mistral_node/listing.mjs";
import "./mistral_node/others.mjs";

const where = JSON.parse(readFileSync(0, "utf8"));
const sdk = await loadSdk(process.argv[2]);
await report(new World(sdk, where), where.operations);
