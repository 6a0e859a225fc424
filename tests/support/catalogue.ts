// A gateway, and MCP servers with scripts, whose catalogues it reads.
import { after, before } from "node:test";
import { register } from "./arrange.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { mcpAt, type Script, startScriptServer } from "./mcp-script.ts";
import type { Service } from "./service.ts";

export let gateway: Gateway;
const servers: Service[] = [];

/** Starts the gateway of a test file, and stops it and its servers at the end. */
export function serveScripts(): void {
  before(async () => {
    gateway = await startGateway();
  });
  after(async () => {
    await gateway?.stop();
    for (const server of servers) await server.stop();
  });
}

let last = 0;
type Options = Parameters<typeof startScriptServer>[1];
/** Registers a server with this script; returns its id and the response of the registration. */
export async function server(script: Script, options?: Options, more: object = {}) {
  const started = await startScriptServer(script, options);
  servers.push(started);
  const id = `server-${++last}`;
  return { id, service: started, registered: await register(gateway, id, mcpAt(started, more)) };
}
export const names = ({ capabilities }: any): string[] => capabilities.map(({ name }: any) => name);
export const leftOut = ({ catalogue }: any) =>
  Object.fromEntries(catalogue.left_out.map(({ name, reason }: any) => [name, reason]));
