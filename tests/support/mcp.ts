// A client of the Model Context Protocol that sends exactly the given requests, in either revision.
import assert from "node:assert/strict";
import type { Answer, Gateway, RequestOptions } from "./gateway.ts";

export const modern = "2026-07-28";
export const claim = {
  "io.modelcontextprotocol/protocolVersion": modern,
  "io.modelcontextprotocol/clientInfo": { name: "tests", version: "1" },
  "io.modelcontextprotocol/clientCapabilities": {},
};

/** The headers of a modern request, which repeat the body. */
export function modernHeaders(method: string, params: any = {}): Record<string, string> {
  const name = params.name ?? params.uri ?? params.taskId;
  return {
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": modern,
    "mcp-method": method,
    ...(name !== undefined && { "mcp-name": name }),
  };
}

let lastId = 0;
export const message = (method: string, params?: object) => ({
  jsonrpc: "2.0",
  id: ++lastId,
  method,
  ...(params && { params }),
});

export type McpOptions = RequestOptions & { path?: string; meta?: object };

/** The path and the options of a request of the modern revision. */
function modernRequest(method: string, params: any, options: McpOptions): { path: string; request: RequestOptions } {
  const { path = "/mcp", meta = {}, ...more } = options;
  const body = message(method, { ...params, _meta: { ...claim, ...meta } });
  return { path, request: { ...more, body, headers: { ...modernHeaders(method, params), ...more.headers } } };
}

/** Sends a request of the modern revision; returns the raw response. */
export function askModern(
  gateway: Gateway,
  method: string,
  params: any = {},
  options: McpOptions = {},
): Promise<Answer> {
  const { path, request } = modernRequest(method, params, options);
  return gateway.request("POST", path, request);
}

/** The same, as soon as the response begins: its headers, and a function that reads it to its end. */
export async function openModern(
  gateway: Gateway,
  method: string,
  params: any = {},
  options: McpOptions = {},
): Promise<{ headers: Headers; whole(): Promise<Answer> }> {
  const { path, request } = modernRequest(method, params, options);
  const response = await gateway.open("POST", path, request);
  return { headers: response.headers, whole: () => gateway.finish("POST", path, response) };
}

/** Sends a request of the legacy revision; returns the raw response. */
export function askLegacy(
  gateway: Gateway,
  method: string,
  params: any = {},
  options: McpOptions = {},
): Promise<Answer> {
  const { path = "/mcp", meta, ...more } = options;
  const body = message(method, { ...params, ...(meta && { _meta: meta }) });
  const headers = {
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
    ...more.headers,
  };
  return gateway.request("POST", path, { ...more, body, headers });
}

/** The messages of a stream that has ended; resumable streams begin with an event without a message. */
export const events = (text: string): any[] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice(6)));

/** The result in a response, as JSON or as a stream. */
export function resultOf(answer: Answer): any {
  assert.equal(answer.status, 200, answer.text);
  const streamed = answer.headers.get("content-type") === "text/event-stream";
  const response = streamed ? events(answer.text).at(-1) : answer.json;
  assert.ok(response?.result, answer.text);
  return response.result;
}

/** Asserts that a response is this error; returns it. */
export function errorOf(answer: Answer, status: number, code: number): any {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.json.error?.code, code, answer.text);
  return answer.json.error;
}
