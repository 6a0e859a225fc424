// An MCP server of 2025-11-25 that responds exactly as a test specifies, without a library in between.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export type Script = {
  /** The result of `initialize`, without the revision. */
  capabilities?: object;
  instructions?: string;
  tools?: object[];
  /** The result of a method, or a promise of it; undefined for an unknown method. */
  answers?: Record<string, (params: any) => any>;
};

export type Stub = {
  url: string;
  script: Script;
  /** Every message received. */
  messages: any[];
  stop(): Promise<void>;
};

/** A tool without arguments. */
export const tool = (name: string, more: object = {}) => ({
  name,
  inputSchema: { type: "object", properties: {} },
  ...more,
});

export async function startStub(script: Script): Promise<Stub> {
  const answered = (method: string, params: any): any => {
    const { capabilities = { tools: {} }, instructions, tools = [tool("t")], answers = {} } = stub.script;
    if (answers[method]) return answers[method](params);
    if (method === "initialize") {
      const serverInfo = { name: "stub", version: "1" };
      return {
        protocolVersion: "2025-11-25",
        capabilities,
        serverInfo,
        ...(instructions !== undefined && { instructions }),
      };
    }
    if (method === "tools/list") return { tools };
    if (method === "tools/call") return { content: [{ type: "text", text: params.name }] };
    if (method === "ping") return {};
    return undefined;
  };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.method !== "POST") return void response.writeHead(405).end();
    const message = JSON.parse(Buffer.concat(chunks).toString());
    stub.messages.push(message);
    if (message.id === undefined) return void response.writeHead(202).end();
    const result = await answered(message.method, message.params);
    const rest = result === undefined ? { error: { code: -32601, message: "Method not found" } } : { result };
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, ...rest }));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const stub: Stub = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    script,
    messages: [],
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return stub;
}
