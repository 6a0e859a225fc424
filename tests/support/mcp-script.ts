// An MCP server that responds exactly as its script says, correctly or not: hand-written JSON-RPC, of the legacy
// revision unless its script says otherwise.
import type { ServerResponse } from "node:http";
import { type Recorded, type Service, startService } from "./service.ts";

/** A result, or a function; a function that writes the response itself returns undefined. */
export type Reply = object | ((call: Recorded, response: ServerResponse) => unknown);
export type Script = Record<string, Reply>;
/** Sends raw bytes. */
export const raw =
  (body: string | Buffer, { status = 200, type = "application/json" } = {}): Reply =>
  (_, response) =>
    void response.writeHead(status, { "content-type": type }).end(body);
/** A response in which `ID` is replaced by the request's id. */
export const message =
  (body: string, options: { status?: number; type?: string } = {}): Reply =>
  (call, response) =>
    (
      raw(body.replaceAll("ID", JSON.stringify(call.json.id)), options) as (
        call: Recorded,
        response: ServerResponse,
      ) => void
    )(call, response);
/** The same as Server-Sent Events. */
export const sse = (body: string): Reply => message(body, { type: "text/event-stream" });
/** An error of JSON-RPC. */
export const refuses = (error: object, status = 200): Reply =>
  message(`{"jsonrpc":"2.0","id":ID,"error":${JSON.stringify(error)}}`, { status });

export const tool = (name: string, more: object = {}) => ({
  name,
  inputSchema: { type: "object", properties: {} },
  ...more,
});
export const text = (said: string) => ({ content: [{ type: "text", text: said }] });
const initialized = (protocolVersion: string, capabilities: object) => ({
  protocolVersion,
  capabilities,
  serverInfo: { name: "script", version: "1" },
});

/** Starts a server with these methods in addition to those of every server. */
export async function startScriptServer(
  script: Script,
  { revision = "2025-11-25", capabilities = { tools: {} } as object } = {},
): Promise<Service> {
  const all: Script = {
    "server/discover": refuses({ code: -32601, message: "Method not found" }),
    initialize: initialized(revision, capabilities),
    "tools/list": { tools: [tool("t")] },
    ...script,
  };
  return startService(async (call, response) => {
    const { id, method } = call.json ?? {};
    if (id === undefined) return void response.writeHead(202).end();
    const said = all[method] ?? refuses({ code: -32601, message: "Method not found" });
    const result = typeof said === "function" ? await said(call, response) : said;
    if (result === undefined) return;
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id, result }));
  });
}

/** The document of a service at this server. */
export const mcpAt = ({ url }: { url: string }, more: object = {}) => ({
  name: "A script",
  type: "tool",
  transport: { kind: "mcp", url: `${url}mcp` },
  retry: { max_attempts: 1, base_ms: 1, cap_ms: 10 },
  ...more,
});
