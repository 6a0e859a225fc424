// @ts-check
// An MCP server with one tool, to be registered as a service with `transport.kind` `mcp`. Node 20 or newer, with
// `npm install @modelcontextprotocol/server @modelcontextprotocol/node`.
//
//   PORT=9002 node examples/mcp-server.mjs
import { createServer } from "node:http";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, fromJsonSchema, McpServer } from "@modelcontextprotocol/server";

/** The documents to search. */
const documents = {
  leases: "A lease is a promise to report again within some seconds.",
  scopes: "A scope is a list of permissions, separated by spaces.",
};

/** One server per request: it keeps no sessions. */
function make() {
  const server = new McpServer({ name: "example-search", version: "1.0.0" });
  const inputSchema = fromJsonSchema({
    type: "object",
    properties: { word: { type: "string", minLength: 1 } },
    required: ["word"],
  });
  server.registerTool("find_document", { description: "Finds a document that has a word.", inputSchema }, (given) => {
    const { word } = /** @type {{word: string}} */ (given);
    const found = Object.values(documents).find((text) => text.includes(word));
    return { content: [{ type: "text", text: found ?? "There is none." }] };
  });
  return server;
}

const serve = toNodeHandler(createMcpHandler(make));
const server = createServer((request, response) => void serve(/** @type {any} */ (request), response));
server.listen(Number(process.env.PORT ?? 9002), "127.0.0.1", () => {
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  console.log(`listening on http://127.0.0.1:${port}/mcp`);
});
