// An MCP server based on the official TypeScript SDK, with everything that the conformance suite requires of a server.
// It speaks both revisions, or only one of them.
//
//   node tests/official-suite/upstream/server.ts [both | legacy | modern]
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { NodeStreamableHTTPServerTransport, toNodeHandler } from "@modelcontextprotocol/node";
import {
  classifyInboundRequest,
  createMcpHandler,
  type EventStore,
  isInitializeRequest,
  type JSONRPCMessage,
  McpServer,
} from "@modelcontextprotocol/server";
import { addAskingTools, states } from "./asking.ts";
import { addPrompts, addResources } from "./rest.ts";
import { addSameTools } from "./same.ts";
import { addTools, type Stage } from "./tools.ts";

export type Revisions = "both" | "legacy" | "modern";
export type Upstream = {
  /** The address it serves at. */
  url: string;
  /** The headers of every request, in order of arrival. */
  requests: IncomingMessage["headers"][];
  /** The labels of cancelled calls of `take_time`. */
  cancelled: ReadonlySet<string>;
  /** Notifies listeners that its tools have changed. */
  toolsChanged(): void;
  /** Notifies subscribers that a resource has changed. */
  resourceUpdated(uri: string): void;
  stop(): Promise<void>;
};

/** The messages sent on each stream, for clients that resume it. */
function eventStore(): EventStore {
  const sent: { stream: string; message: JSONRPCMessage }[] = [];
  return {
    async storeEvent(stream, message) {
      return String(sent.push({ stream, message }));
    },
    async replayEventsAfter(last, { send }) {
      const stream = sent[Number(last) - 1]?.stream ?? "";
      for (const [at, event] of [...sent.entries()].slice(Number(last))) {
        // An event that only opened the stream has no message.
        if (event.stream === stream && "jsonrpc" in event.message) await send(String(at + 1), event.message);
      }
      return stream;
    },
  };
}

type Session = { server: McpServer; transport: NodeStreamableHTTPServerTransport };

export async function startUpstream({ revisions = "both", port = 0 }: { revisions?: Revisions; port?: number } = {}): Promise<Upstream> {
  const sessions = new Map<string, Session>();
  const requests: Upstream["requests"] = [];
  const cancelled = new Set<string>();
  const stage: Stage = {
    toolsChanged() {
      modern.notify.toolsChanged();
      for (const { server } of sessions.values()) server.sendToolListChanged();
    },
    promptsChanged() {
      modern.notify.promptsChanged();
      for (const { server } of sessions.values()) server.sendPromptListChanged();
    },
    endStream: (session, request) => sessions.get(session ?? "")?.transport.closeSSEStream(request),
  };

  function make() {
    const server = new McpServer({ name: "everything", version: "1.0.0" }, {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
      requestState: { verify: states.verify },
    });
    addTools(server, stage);
    addAskingTools(server);
    addSameTools(server, (label) => void cancelled.add(label));
    addResources(server);
    addPrompts(server);
    return server;
  }
  const modern = createMcpHandler(make, { legacy: "reject" });
  const serveModern = toNodeHandler(modern);

  async function openSession(request: IncomingMessage, response: ServerResponse, body: unknown) {
    const server = make();
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: eventStore(),
      retryInterval: 500,
      onsessioninitialized: (id) => void sessions.set(id, { server, transport }),
    });
    transport.onclose = () => void sessions.delete(transport.sessionId ?? "");
    await server.connect(transport);
    await transport.handleRequest(request, response, body);
  }

  async function serveLegacy(request: IncomingMessage, response: ServerResponse, body: unknown) {
    const id = request.headers["mcp-session-id"];
    const session = sessions.get(String(id));
    if (session) return session.transport.handleRequest(request, response, body);
    if (id === undefined && isInitializeRequest(body)) return openSession(request, response, body);
    const [status, message] = id === undefined ? [400, "Session id missing"] : [404, "Unknown session"];
    const error = { jsonrpc: "2.0", id: null, error: { code: -32_000, message } };
    response.writeHead(status as number, { "content-type": "application/json" }).end(JSON.stringify(error));
  }

  const server = createServer(async (request, response) => {
    requests.push(request.headers);
    try {
      // DNS rebinding: the request names another host than this machine.
      if (!/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(request.headers.host ?? "")) return void response.writeHead(403).end();
      const body = request.method === "POST" ? await json(request) : undefined;
      const header = (name: string) => request.headers[name] as string | undefined;
      const { kind } = classifyInboundRequest({
        httpMethod: request.method ?? "",
        ...(header("mcp-protocol-version") && { protocolVersionHeader: header("mcp-protocol-version")! }),
        ...(header("mcp-method") && { mcpMethodHeader: header("mcp-method")! }),
        body,
      });
      const isModern = revisions === "modern" || (revisions === "both" && kind !== "legacy");
      await (isModern ? serveModern(request as never, response, body) : serveLegacy(request, response, body));
    } catch (error) {
      if (!response.headersSent) response.writeHead(400);
      response.end(String(error));
    }
  });
  await new Promise<void>((resolve, reject) => void server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    requests,
    cancelled,
    toolsChanged: stage.toolsChanged,
    resourceUpdated(uri) {
      modern.notify.resourceUpdated(uri);
      for (const { server } of sessions.values()) void server.server.sendResourceUpdated({ uri });
    },
    async stop() {
      await modern.close();
      for (const { transport } of [...sessions.values()]) await transport.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const upstream = await startUpstream({ revisions: (process.argv[2] ?? "both") as Revisions, port: Number(process.env.PORT ?? 0) });
  console.log(`listening on ${upstream.url}`);
}
