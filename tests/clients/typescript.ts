// The official TypeScript clients: the most widely used one (1.x), and the newer one (2.x) with its defaults and in its
// newest modes.
import {
  Client,
  ClientCredentialsProvider,
  type ClientOptions,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { ClientCredentialsProvider as FirstProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { Client as FirstClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as FirstTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { apart } from "../support/apart.ts";
import type { Credentials, Doings, Kind, Where } from "./kinds.ts";

const info = { name: "tests", version: "1.0.0" };
type Call = { name: string; arguments: Record<string, unknown> };
type CallOptions = { signal?: AbortSignal; onprogress?: (progress: { message?: string | undefined }) => void };
/** A common interface to both clients. */
type Connected = {
  revision: string | undefined;
  tools(): Promise<{ name: string }[]>;
  call(call: Call, options?: CallOptions): Promise<any>;
  task?(call: Call): Promise<Doings["task"]>;
  close(): Promise<void>;
};
type Asks = (message: string) => Record<string, boolean>;
type Connect = (url: string, credentials: Credentials, user?: Asks) => Promise<Connected>;

const machine = (credentials: Exclude<Credentials, { key: string }>) => ({
  clientId: credentials.client_id,
  clientSecret: credentials.client_secret,
  expectedIssuer: credentials.issuer,
});

const first: Connect = async (url, credentials, user) => {
  const client = new FirstClient(info, { capabilities: user ? { elicitation: {} } : {} });
  if (user)
    client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({
      action: "accept",
      content: user(params.message),
    }));
  const transport = new FirstTransport(
    new URL(url),
    "key" in credentials
      ? { fetch: apart, requestInit: { headers: { authorization: `Bearer ${credentials.key}` } } }
      : { fetch: apart, authProvider: new FirstProvider(machine(credentials)) },
  );
  await client.connect(transport as never);
  return {
    revision: transport.protocolVersion,
    tools: async () => (await client.listTools()).tools,
    call: (call, options) => client.callTool(call, undefined, options as never),
    async task(call) {
      const seen: string[] = [];
      for await (const message of client.experimental.tasks.callToolStream(call, CallToolResultSchema, {
        task: { ttl: 60_000 },
      })) {
        if (message.type === "error") throw message.error;
        if (message.type === "result") return { seen, result: message.result.structuredContent };
        seen.push(message.type === "taskCreated" ? "created" : message.task.status);
      }
      throw new Error("the task has no end");
    },
    close: () => client.close(),
  };
};

const second =
  (versionNegotiation?: ClientOptions["versionNegotiation"]): Connect =>
  async (url, credentials, user) => {
    const client = new Client(info, {
      capabilities: user ? { elicitation: {} } : {},
      ...(versionNegotiation && { versionNegotiation }),
    });
    if (user)
      client.setRequestHandler("elicitation/create", ({ params }) => ({
        action: "accept",
        content: user(params.message),
      }));
    const options =
      "key" in credentials
        ? { fetch: apart, requestInit: { headers: { authorization: `Bearer ${credentials.key}` } } }
        : { fetch: apart, authProvider: new ClientCredentialsProvider(machine(credentials)) };
    await client.connect(new StreamableHTTPClientTransport(new URL(url), options));
    return {
      revision: client.getNegotiatedProtocolVersion(),
      tools: async () => (await client.listTools()).tools,
      call: (call, options) => client.callTool(call, options as never),
      close: () => client.close(),
    };
  };

const doings: {
  [What in keyof Doings]: (connect: (user?: Asks) => Promise<Connected>, where: Where) => Promise<Doings[What]>;
} = {
  async list(connect) {
    const client = await connect();
    const tools = (await client.tools()).map(({ name }) => name).sort();
    const { content } = await client.call({ name: "greet", arguments: { name: "Ada" } });
    await client.close();
    return { revision: client.revision ?? "none", tools, said: content[0].text };
  },
  async progress(connect, { slow }) {
    const client = await connect();
    const messages: string[] = [];
    const onprogress: CallOptions["onprogress"] = ({ message }) => void messages.push(message ?? "");
    const result = await client.call({ name: slow, arguments: { seconds: 2 } }, { onprogress });
    await client.close();
    return { messages, result: result.structuredContent };
  },
  async cancel(connect, { slow, label }) {
    // In the older revision a request is cancelled by its id within a session, and only clients that support
    // elicitation have one.
    const client = await connect(() => ({}));
    const stop = new AbortController();
    const onprogress = () => stop.abort("no longer needed");
    const call = client.call({ name: slow, arguments: { seconds: 60, label } }, { signal: stop.signal, onprogress });
    const cancelled = await call.then(
      () => false,
      () => stop.signal.aborted,
    );
    // Closing at once would also abort the request that cancels the call.
    await client.tools();
    await client.close();
    return { cancelled };
  },
  async elicit(connect) {
    const asked: string[] = [];
    const client = await connect((message) => (asked.push(message), { confirm: true }));
    const result = await client.call({ name: "confirm_delete", arguments: { filename: "notes.txt" } });
    await client.close();
    return { asked, result: result.structuredContent };
  },
  async task(connect, { slow }) {
    const client = await connect();
    const done = await client.task!({ name: slow, arguments: { seconds: 1, label: "a task" } });
    await client.close();
    return done;
  },
};

const kind = (name: string, revision: Kind["revision"], connect: Connect, tasks = false): Kind => ({
  name,
  revision,
  tasks,
  does: (what, where, credentials) => doings[what]((user) => connect(where.url, credentials, user), where),
});

/** The plain clients, for tests that only some of them support. */
export const connects: Record<string, Connect> = {
  "1.x": first,
  "2.x": second(),
  "2.x, auto": second({ mode: "auto" }),
};

export const kinds = [
  kind("@modelcontextprotocol/sdk", "2025-11-25", first, true),
  kind("@modelcontextprotocol/client", "2025-11-25", second()),
  kind("@modelcontextprotocol/client, auto", "2026-07-28", second({ mode: "auto" })),
  kind("@modelcontextprotocol/client, pinned", "2026-07-28", second({ mode: { pin: "2026-07-28" } })),
];
