// A hand-written MCP server of 2025-11-25 with strict sessions: resources exist only in the session that created them,
// and requests without a known session are refused. It can support tasks, and the modern revision too.
import { randomUUID } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Session = {
  id: string;
  capabilities: any;
  /** Calls so far. */
  count: number;
  /** Addresses of resources created in it. */
  made: Set<string>;
  /** Its GET stream. */
  stream: ServerResponse | undefined;
};

/** A running call, as its tool sees it. In the modern revision, its session has no id. */
export type Running = {
  session: Session;
  params: any;
  /** Sends a message on the stream of the call. */
  sendOnCall(message: object): void;
  /** Sends a message on the stream of the session. */
  sendOnSession(message: object): void;
  /** Sends a request to the client on the stream of the call; returns the response. */
  ask(method: string, params: object): Promise<any>;
};

/**
 * `needs`: it is listed only to clients with this capability. `tasked`: in the modern revision it runs only as a task.
 */
export type Tool = {
  run?: (running: Running) => Promise<any> | any;
  definition?: object;
  needs?: string;
  tasked?: boolean;
};

export type Keeper = {
  url: string;
  /** The received requests: HTTP method, JSON-RPC method, and session id. */
  requests: { http: string; method: string | undefined; session: string | undefined; body: any }[];
  /** The number of requests with this HTTP or JSON-RPC method. */
  count(what: string): number;
  sessions: Map<string, Session>;
  tools: Record<string, Tool>;
  /** True: it returns an invalid list of tools. */
  hasBadList: boolean;
  /** The response to an unknown session. */
  refuse: (response: ServerResponse) => void;
  stop(): Promise<void>;
};

const taskExtension = "io.modelcontextprotocol/tasks";
const modernMeta = "io.modelcontextprotocol/protocolVersion";
export const notification = (method: string, params: object = {}) => ({ jsonrpc: "2.0", method, params });
export const text = (value: unknown) => ({ content: [{ type: "text", text: String(value) }] });

export async function startKeeper(
  tools: Record<string, Tool>,
  {
    opensMs = 0,
    modern = false,
    sessions: keeps = true,
  }: { opensMs?: number; modern?: boolean; sessions?: boolean } = {},
): Promise<Keeper> {
  const answers = new Map<string, (message: any) => void>();
  type Task = {
    task: { status: string };
    session: string;
    stream: (response: ServerResponse) => void;
    ended: Promise<object>;
  };
  const tasks = new Map<string, Task>();
  const modernTasks = new Map<string, any>();
  let asked = 0;

  const send = (response: ServerResponse, body: object, headers: Record<string, string> = {}) =>
    void response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  const write = (response: ServerResponse, message: object) =>
    void response.write(`data: ${JSON.stringify(message)}\n\n`);

  async function call(session: Session, { id, params }: any, response: ServerResponse) {
    const tool = keeper.tools[params.name];
    const fail = (code: number, message: string) => send(response, { jsonrpc: "2.0", id, error: { code, message } });
    if (!tool) return fail(-32602, `Unknown tool: ${params.name}`);
    if ((tool.definition as any)?.execution?.taskSupport === "required" && !params.task)
      return fail(-32601, "This tool is called as a task.");
    const isModern = session.id === "";
    const knowsTasks = session.capabilities?.extensions?.[taskExtension];
    if (isModern && tool.tasked && !knowsTasks) {
      const data = { requiredCapabilities: { extensions: { [taskExtension]: {} } } };
      return void response
        .writeHead(400, { "content-type": "application/json" })
        .end(JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32021, message: "Tasks are needed", data } }));
    }
    session.count += 1;
    const running = (stream: ServerResponse): Running => ({
      session,
      params,
      sendOnCall: (message) => write(stream, message),
      sendOnSession: (message) => session.stream && write(session.stream, message),
      ask: (method, params) =>
        new Promise((resolve) => {
          const id = `s${++asked}`;
          answers.set(id, resolve);
          write(stream, { jsonrpc: "2.0", id, method, params });
        }),
    });
    if (isModern && tool.tasked) return beginModern(id, tool, response);
    if (params.task) return begin(session, { id, params }, response, running);
    response.writeHead(200, { "content-type": "text/event-stream" });
    const run = async () => (tool.run ?? (() => text(params.name)))(running(response));
    const result = await run().catch((error) => ({ ...text(error.message), isError: true }));
    response.end(`data: ${JSON.stringify({ jsonrpc: "2.0", id, result })}\n\n`);
  }

  /** A task of 2025: it sends its requests on the stream of `tasks/result`. */
  function begin(
    session: Session,
    { id, params }: any,
    response: ServerResponse,
    running: (stream: ServerResponse) => Running,
  ) {
    const taskId = randomUUID();
    let stream: (response: ServerResponse) => void = () => {};
    const opened = new Promise<ServerResponse>((resolve) => (stream = resolve));
    const task = { status: "working" };
    const ask = async (method: string, params: object) => {
      task.status = "input_required";
      const answer = await running(await opened).ask(method, params);
      task.status = "working";
      return answer;
    };
    const run = { ...running(response), sendOnCall: () => {}, ask };
    const related = { _meta: { "io.modelcontextprotocol/related-task": { taskId } } };
    const ran = (async () => keeper.tools[params.name]!.run?.(run) ?? text(params.name))();
    const ended = ran.then(
      (result) => ((task.status = "completed"), { result: { ...result, ...related } }),
      (error) => ((task.status = "failed"), { error: { code: -32603, message: String(error.message) } }),
    );
    tasks.set(taskId, { task, stream, ended, session: session.id });
    const at = new Date().toISOString();
    send(response, {
      jsonrpc: "2.0",
      id,
      result: {
        task: { taskId, status: "working", createdAt: at, lastUpdatedAt: at, ttl: params.task.ttl, pollInterval: 50 },
      },
    });
  }

  /** A task of 2026: its requests and its result are part of its state. */
  function beginModern(id: unknown, tool: Tool, response: ServerResponse) {
    const taskId = randomUUID();
    const state: any = { status: "working" };
    const ask = (method: string, params: object) =>
      new Promise((resolve) => {
        Object.assign(state, { status: "input_required", inputRequests: { one: { method, params } } });
        answers.set(taskId, ({ one }: any) => {
          delete state.inputRequests;
          state.status = "working";
          resolve({ result: one });
        });
      });
    (async () => tool.run?.({ ask } as Running) ?? text("task"))().then(
      (result) => Object.assign(state, { status: "completed", result }),
      (error) => Object.assign(state, { status: "failed", error: { code: -32603, message: error.message } }),
    );
    modernTasks.set(taskId, state);
    send(response, {
      jsonrpc: "2.0",
      id,
      result: { resultType: "task", taskId, status: "working", ttlMs: 60_000, pollIntervalMs: 50 },
    });
  }

  function ofModernTask({ id, method, params }: any, response: ServerResponse) {
    const state = modernTasks.get(params.taskId);
    if (!state) return send(response, { jsonrpc: "2.0", id, error: { code: -32602, message: "No such task" } });
    if (method === "tasks/cancel") state.status = "cancelled";
    if (method === "tasks/update") answers.get(params.taskId)?.(params.inputResponses);
    const task = method === "tasks/get" ? { taskId: params.taskId, pollIntervalMs: 50, ...state } : {};
    send(response, { jsonrpc: "2.0", id, result: { resultType: "complete", ...task } });
  }

  async function ofTask({ id, method, params }: any, session: Session, response: ServerResponse) {
    const known = tasks.get(params.taskId);
    if (!known || known.session !== session.id)
      return send(response, { jsonrpc: "2.0", id, error: { code: -32602, message: "No such task" } });
    const { task, stream, ended } = known;
    if (method === "tasks/cancel") task.status = "cancelled";
    if (method !== "tasks/result")
      return send(response, {
        jsonrpc: "2.0",
        id,
        result: { taskId: params.taskId, status: task.status, pollInterval: 50 },
      });
    response.writeHead(200, { "content-type": "text/event-stream" });
    stream(response);
    response.end(`data: ${JSON.stringify({ jsonrpc: "2.0", id, ...(await ended) })}\n\n`);
  }

  function answer(session: Session, body: any, response: ServerResponse): unknown {
    const { id, method, params = {} } = body;
    const result = (result: object) => send(response, { jsonrpc: "2.0", id, result });
    switch (method) {
      case undefined:
        answers.get(id)?.(body);
        return response.writeHead(202).end();
      case "tools/list": {
        if (keeper.hasBadList) return result({ tools: "none" });
        const may = ([, { needs }]: [string, Tool]) => needs === undefined || session.capabilities?.[needs];
        const shown = Object.entries(keeper.tools).filter(may);
        return result({
          tools: shown.map(([name, { definition }]) => ({ name, inputSchema: { type: "object" }, ...definition })),
        });
      }
      case "tools/call":
        return call(session, body, response);
      case "tasks/update":
        return ofModernTask(body, response);
      case "tasks/get":
      case "tasks/result":
      case "tasks/cancel":
        return session.id === "" ? ofModernTask(body, response) : ofTask(body, session, response);
      case "resources/list":
        return result({ resources: [...session.made].map((uri) => ({ uri, name: uri })) });
      case "resources/read":
      case "prompts/get":
      case "completion/complete": {
        const of = params.uri ?? params.name ?? params.ref?.uri;
        if (!session.made.has(of))
          return send(response, {
            jsonrpc: "2.0",
            id,
            error: { code: -32602, message: `Nothing of this session: ${of}` },
          });
        if (method === "resources/read") return result({ contents: [{ uri: of, text: "made" }] });
        return result(method === "prompts/get" ? { messages: [] } : { completion: { values: ["made"] } });
      }
      default:
        if (id === undefined) return response.writeHead(202).end();
        return result({});
    }
  }

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const raw = Buffer.concat(chunks).toString();
    const body = raw === "" ? undefined : JSON.parse(raw);
    const named = request.headers["mcp-session-id"] as string | undefined;
    keeper.requests.push({ http: request.method!, method: body?.method, session: named, body });
    const { id, method, params } = body ?? {};
    if (params?._meta?.[modernMeta]) {
      if (!modern) return send(response, { jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
      if (method === "server/discover") {
        return send(response, {
          jsonrpc: "2.0",
          id,
          result: { resultType: "complete", supportedVersions: ["2026-07-28"], capabilities: { tools: {} } },
        });
      }
      const session: Session = {
        id: "",
        capabilities: params._meta["io.modelcontextprotocol/clientCapabilities"],
        count: 0,
        made: new Set(),
        stream: undefined,
      };
      return void answer(session, body, response);
    }
    if (method === "initialize") {
      await new Promise((resolve) => setTimeout(resolve, opensMs));
      const session: Session = {
        id: randomUUID(),
        capabilities: params.capabilities,
        count: 0,
        made: new Set(),
        stream: undefined,
      };
      if (keeps) keeper.sessions.set(session.id, session);
      const capabilities = {
        tools: { listChanged: true },
        resources: { listChanged: true },
        prompts: {},
        completions: {},
        logging: {},
      };
      const result = { protocolVersion: "2025-11-25", capabilities, serverInfo: { name: "keeper", version: "1" } };
      return send(response, { jsonrpc: "2.0", id, result }, keeps ? { "mcp-session-id": session.id } : {});
    }
    const session = keeper.sessions.get(named ?? "");
    if (!session) return keeper.refuse(response);
    if (request.method === "DELETE") {
      keeper.sessions.delete(session.id);
      session.stream?.end();
      return void response.writeHead(204).end();
    }
    if (request.method === "GET") {
      if (session.stream) return void response.writeHead(409).end();
      session.stream = response;
      response.on("close", () => (session.stream = undefined));
      response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
      return;
    }
    void answer(session, body, response);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const keeper: Keeper = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    requests: [],
    count: (what) => keeper.requests.filter(({ http, method }) => method === what || http === what).length,
    sessions: new Map(),
    tools,
    hasBadList: false,
    refuse: (response) => void response.writeHead(404).end(),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return keeper;
}
