// Keepers, which are servers with strict sessions, registered at a gateway; and the sessions of a client there.
import assert from "node:assert/strict";
import { register } from "./arrange.ts";
import type { Gateway } from "./gateway.ts";
import { askLegacy, type McpOptions, resultOf } from "./mcp.ts";
import { type Keeper, startKeeper } from "./sessions.ts";

const keepers: Keeper[] = [];

const mcpAt = (url: string, more: object = {}) => ({
  name: "A keeper",
  type: "tool",
  transport: { kind: "mcp", url },
  retry: { max_attempts: 1, base_ms: 1, cap_ms: 10 },
  ...more,
});

/** Stops every keeper of this test file. */
export async function stopKeepers(): Promise<void> {
  for (const keeper of keepers) await keeper.stop();
}

/** Starts a keeper, and registers it under this id. */
export async function keeperAt(gateway: Gateway, id: string, ...given: Parameters<typeof startKeeper>) {
  const keeper = await startKeeper(...given);
  keepers.push(keeper);
  await register(gateway, id, mcpAt(keeper.url));
  return keeper;
}

/** Begins a session at the gateway; returns the path and headers of its requests. */
export async function begin(gateway: Gateway, path: string, capabilities: object = { elicitation: {} }) {
  const opened = await askLegacy(
    gateway,
    "initialize",
    { protocolVersion: "2025-11-25", capabilities, clientInfo: { name: "t", version: "1" } },
    { path },
  );
  resultOf(opened);
  const id = opened.headers.get("mcp-session-id");
  assert.ok(id, "a session");
  return { path, headers: { "mcp-session-id": id } };
}

/** The text of a tool's result. */
export const called = async (gateway: Gateway, name: string, options: McpOptions, ask = askLegacy) =>
  resultOf(await ask(gateway, "tools/call", { name, arguments: {} }, options)).content[0].text;
