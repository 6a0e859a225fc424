// @ts-check
// The MCP endpoint: the same context as by the API, and a list of many tools.
import { contextBody } from "./bodies.mjs";

/**
 * @typedef {import("./targets.mjs").Target} Target
 * @typedef {import("./client.mjs").RequestSpec} RequestSpec
 */

const REVISION = "2026-07-28";
/** The size of the list. */
const SERVICES = 100;
const TOOLS = 20;

/**
 * @param {Target} target @param {string} path @param {string} method @param {Record<string, unknown>} params
 * @returns {RequestSpec}
 */
function message(target, path, method, params) {
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": { name: "bench", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  const name = typeof params.name === "string" ? { "Mcp-Name": params.name } : {};
  return {
    method: "POST",
    path,
    headers: {
      ...target.headers,
      Accept: "application/json, text/event-stream",
      "MCP-Protocol-Version": REVISION,
      "Mcp-Method": method,
      ...name,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta } }),
  };
}

/** The request of `contextRequest` as a tool call. @param {Target} target */
export function toolCall(target) {
  const { capability, parameters } = JSON.parse(contextBody("echo"));
  return message(target, "/mcp/bench", "tools/call", { name: capability, arguments: parameters });
}

/** @param {Target} target @param {RequestSpec} spec */
async function ask(target, spec) {
  const response = await fetch(`http://127.0.0.1:${target.port}${spec.path}`, {
    method: spec.method,
    headers: { ...spec.headers, "content-type": "application/json" },
    body: spec.body ?? "",
  });
  return { status: response.status, json: /** @type {any} */ (await response.json()) };
}

/** Registers the services with all their tools. @param {Target} target @param {number} upstreamPort */
export async function furnish(target, upstreamPort) {
  const capability = (/** @type {number} */ number) => ({
    name: `tool_${number}`,
    description: `Does what the tool with the number ${number} does, for the caller.`,
    input_schema: {
      type: "object",
      required: ["query"],
      properties: {
        query: { type: "string", description: "What is looked for" },
        limit: { type: "integer", minimum: 1, maximum: 100 },
      },
    },
  });
  const capabilities = Array.from({ length: TOOLS }, (_, number) => capability(number));
  for (let number = 0; number < SERVICES; number += 1) {
    const body = JSON.stringify({
      name: `Service ${number}`,
      type: "tool",
      transport: { kind: "http", url: `http://127.0.0.1:${upstreamPort}/` },
      capabilities,
    });
    const spec = { method: "PUT", path: `/v1/services/many-${number}`, headers: target.admin, body };
    const { status, json } = await ask(target, spec);
    if (status !== 201)
      throw new Error(`a service could not be registered: ${status} ${JSON.stringify(json).slice(0, 400)}`);
  }
}

/** A request for each page of the list. @param {Target} target */
export async function pages(target) {
  /** @type {RequestSpec[]} */
  const specs = [];
  let listed = 0;
  for (let cursor; specs.length === 0 || cursor !== undefined;) {
    const spec = message(target, "/mcp", "tools/list", cursor === undefined ? {} : { cursor });
    const { status, json } = await ask(target, spec);
    if (status !== 200 || !json.result)
      throw new Error(`a page of tools was answered ${status} ${JSON.stringify(json).slice(0, 400)}`);
    listed += json.result.tools.length;
    cursor = json.result.nextCursor;
    specs.push(spec);
  }
  if (listed < SERVICES * TOOLS || specs.length < 2)
    throw new Error(`${listed} tools on ${specs.length} pages are not all`);
  return specs;
}
