// A small MCP server based on the official SDK, with tools that a test can change, and with an optional bearer token.
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, fromJsonSchema, McpServer } from "@modelcontextprotocol/server";

export type Tool = {
  description?: string;
  input?: object;
  output?: object;
  annotations?: object;
  /** The result of a call. Default: a text. */
  run?: (given: any, context: any) => Promise<any> | any;
};

export type SmallUpstream = {
  url: string;
  tools: Record<string, Tool>;
  /** Each request: its headers, and its body if it has one. */
  requests: { headers: IncomingMessage["headers"]; body: any }[];
  /** The status of every response instead of a result; 0: none. */
  refuse: number;
  /** The required Authorization header. */
  authorization: string | undefined;
  stop(): Promise<void>;
};

export async function startSmallUpstream(tools: Record<string, Tool>, { legacy = false } = {}): Promise<SmallUpstream> {
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "small", version: "1.0.0" }, { capabilities: { tools: {} } });
    for (const [name, { description, input, output, annotations, run }] of Object.entries(upstream.tools)) {
      const config = {
        ...(description !== undefined && { description }),
        inputSchema: fromJsonSchema<any>((input ?? { type: "object" }) as never),
        ...(output && { outputSchema: fromJsonSchema(output as never) }),
        ...(annotations && { annotations }),
      };
      server.registerTool(
        name,
        config as never,
        (async (given: any, context: any) =>
          run ? run(given, context) : { content: [{ type: "text", text: name }] }) as never,
      );
    }
    return server;
  });
  const serve = toNodeHandler(handler);
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? undefined : JSON.parse(text);
    upstream.requests.push({ headers: request.headers, body });
    if (upstream.refuse !== 0) return void response.writeHead(upstream.refuse).end();
    const wanted = upstream.authorization;
    if (wanted !== undefined && request.headers.authorization !== wanted) return void response.writeHead(401).end();
    // A server that knows no newer revision.
    if (legacy && body?.params?._meta?.["io.modelcontextprotocol/protocolVersion"])
      return void response.writeHead(400).end();
    await serve(request as never, response, body);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const upstream: SmallUpstream = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    tools,
    requests: [],
    refuse: 0,
    authorization: undefined,
    async stop() {
      await handler.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return upstream;
}
