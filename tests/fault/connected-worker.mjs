// @ts-check
// The connected service that is killed. It records in a file the work that it begins and completes; lines that were
// written survive the process.
import { appendFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { serve } from "../../examples/socket-service.mjs";

const { GATEWAY: gateway = "", SERVICE: service = "", KEY: key = "", DIARY = "" } = process.env;

/** @type {import("../../examples/socket-service.mjs").Capability} */
async function work({ context_id, capability, parameters }) {
  const note = (/** @type {string} */ what) =>
    appendFileSync(DIARY, `${JSON.stringify({ what, context: context_id, capability })}\n`);
  note("begun");
  await pause(parameters.ms);
  note("done");
  return parameters;
}

await serve({ gateway, service, key, credit: 8, capabilities: { again: work, once: work } });
