// Services that put secrets wherever they can say something: answers, errors, pieces, progress, questions, callbacks.
import type { ServerResponse } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { modern } from "./mcp.ts";
import { openaiBehaviours, picture, planted } from "./planted.ts";
import { type Handler, hang, json, type Recorded, reset, type Service, startService } from "./service.ts";

/** A text of at least so many bytes, with secrets all over it. */
const filled = (place: string, bytes: number): string => `${planted(place)} `.repeat(Math.ceil(bytes / 40));
const LARGE = 20 * 1024;
const HUGE = 1_200 * 1024;
const LATE_MS = 1_500;

// What a service is called for.

/** The context of a call, and the secret by which the tests know it. */
export const contextOf = ({ json, headers }: Recorded): string =>
  json?.context_id ?? json?.params?._meta?.progressToken ?? headers["idempotency-key"];
const actOf = ({ json }: Recorded): string => {
  const { act } = json.parameters ?? json.params?.arguments ?? {};
  return act ?? json.model;
};

// Over HTTP.

const type =
  (status: number, type: string, body: string, headers: Record<string, string> = {}): Handler =>
  (_, response) =>
    void response.writeHead(status, { "content-type": type, ...headers }).end(body);
const page = `<!doctype html><title>${planted("title")}</title><p>${planted("page")}</p>`;
const words = (more: object = {}) => ({
  error: { code: "odd", message: planted("words"), details: { [planted("member")]: [planted("detail")] }, ...more },
});
const noted = { "x-note": planted("header"), "set-cookie": `note=${planted("cookie")}` };
const answer = { result: { said: planted("answer"), [planted("member")]: { deep: [planted("deep-answer")] } } };
const question = {
  input_required: {
    message: planted("question"),
    schema: { type: "object", properties: { [planted("asked")]: { type: "string", title: planted("asked-title") } } },
  },
};

/** The contexts that have been called once. */
const called = new Set<string>();
/** Fails first, for each context. */
const onceFirst =
  (first: Handler, then: Handler): Handler =>
  (call, response) => {
    const isFirst = !called.has(contextOf(call));
    called.add(contextOf(call));
    return (isFirst ? first : then)(call, response);
  };

/** Sends reports to its callback during the call. */
const reports =
  (...bodies: object[]): Handler =>
  async (call, response) => {
    for (const body of bodies) {
      const headers = { "content-type": "application/json" };
      const said = await fetch(call.json.callback_url, { method: "POST", headers, body: JSON.stringify(body) });
      await said.arrayBuffer();
    }
    return json(answer)(call, response);
  };

const half: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
  response.write(`{"result":"${planted("half")}`, () => response.destroy());
};

/** By the parameter `act`. */
export const httpActs: Record<string, Handler> = {
  answers: json(answer, 200, noted),
  grows: json({ result: filled("large", LARGE) }),
  swells: json({ result: { text: filled("huge", HUGE), picture } }),
  mutters: type(200, "text/plain", planted("words")),
  shows: type(200, "text/html", page),
  "shows-failure": type(502, "text/html", page),
  breaks: type(200, "application/json", `{"result": "${planted("words")}`),
  confuses: json({ outcome: planted("answer"), result: 1, error: planted("words") }),
  misspells: json({ results: planted("answer") }),
  mismatches: json({ result: { n: planted("answer"), [planted("member")]: 1 } }),
  fails: json(words(), 200, noted),
  "fails-at-length": json(words({ details: filled("large-words", LARGE) })),
  "fails-oddly": json(words({ code: planted("code"), retryable: planted("retryable") })),
  refuses: json(words(), 400),
  denies: json({ detail: planted("words"), title: planted("title"), type: planted("type") }, 422),
  crashes: json(words(), 500, noted),
  repeats: json(words({ retryable: true })),
  recovers: onceFirst(json(words(), 503), json(answer)),
  limits: onceFirst(json(words(), 429, { "retry-after": "1" }), json(answer)),
  delays: json(words(), 503, { "retry-after": planted("retry") }),
  moves: json(words(), 302, { location: `/${planted("moved")}` }),
  promises: json({ lease_seconds: 30, note: planted("note") }, 202, { location: `/jobs/${planted("job")}` }),
  "promises-oddly": type(202, "text/html", page, { location: `https://${planted("host")}.example/` }),
  asks: json(question),
  reports: reports(
    { progress: { note: planted("progress") }, lease_seconds: 30 },
    { result: planted("early") },
    { ...words() },
    { ...question },
    { [planted("member")]: planted("unknown") },
  ),
  cuts: reset,
  halves: half,
  late: async (call, response) => {
    await pause(LATE_MS, undefined, { ref: false });
    if (!response.destroyed) await json(answer)(call, response);
  },
  hangs: hang,
};

// Of MCP.

const tool = (name: string, more: object = {}) => ({ name, inputSchema: { type: "object" }, ...more });
const strict = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
const link = { type: "resource_link", uri: `note://${planted("link")}`, name: planted("link-name") };
const said = {
  content: [
    { type: "text", text: planted("text"), annotations: { audience: ["user"] }, _meta: { note: planted("meta") } },
    { type: "image", data: picture, mimeType: "image/png" },
    { ...link, description: planted("link-description") },
    { type: "resource", resource: { uri: `note://${planted("resource")}`, text: planted("embedded") } },
  ],
  structuredContent: { said: planted("structured"), [planted("member")]: true },
  _meta: { "com.example/note": planted("result-meta") },
};
const rpcError = (code: number, data: unknown) => ({ error: { code, message: planted("words"), data } });
const elicited = {
  method: "elicitation/create",
  params: { message: planted("question"), requestedSchema: { type: "object", properties: {} } },
};
const sampled = {
  method: "sampling/createMessage",
  params: { maxTokens: 1, messages: [{ role: "user", content: { type: "text", text: planted("sampled") } }] },
};

type Reply = (call: Recorded, response: ServerResponse) => unknown;
const reply =
  (body: object, status = 200): Reply =>
  ({ json: { id } }, response) =>
    json({ jsonrpc: "2.0", id, ...body }, status)({} as Recorded, response);
const event = (message: object) => `data: ${JSON.stringify({ jsonrpc: "2.0", ...message })}\n\n`;

/** What it says during a call. */
const chatter = ({ json: { params } }: Recorded): string => {
  const progressToken = params._meta?.progressToken;
  const at = (progress: number) => ({ progressToken, progress, total: 2, message: planted("progress") });
  const logged = { level: "error", logger: planted("logger"), data: { note: planted("log") } };
  return [
    { method: "notifications/progress", params: at(1) },
    { method: "notifications/message", params: logged },
    { method: "notifications/resources/list_changed", params: { _meta: { note: planted("list-changed") } } },
    { method: "notifications/resources/updated", params: { uri: `note://${planted("updated")}` } },
    { method: `notifications/${planted("method")}`, params: { note: planted("notification") } },
    { method: "notifications/progress", params: at(2) },
  ]
    .map(event)
    .join("");
};
const begin = (call: Recorded, response: ServerResponse) => {
  response.on("error", () => {});
  response.writeHead(200, { "content-type": "text/event-stream" });
  return new Promise((written) => response.write(chatter(call), written));
};

/** Who waits for the answers to requests of servers. */
const asked = new Map<string, () => void>();
let questions = 0;
const asks: Reply = async (call, response) => {
  await begin(call, response);
  for (const request of [elicited, sampled]) {
    const id = `${planted("question-id")}-${++questions}`;
    const answered = new Promise<void>((resolve) => void asked.set(id, resolve));
    response.write(event({ id, ...request }));
    await Promise.race([answered, pause(5_000, undefined, { ref: false })]);
  }
  response.end(event({ id: call.json.id, result: said }));
};
const chatters =
  (ms: number): Reply =>
  async (call, response) => {
    await begin(call, response);
    await pause(ms, undefined, { ref: false });
    response.end(event({ id: call.json.id, result: said }));
  };
/** Work as a task at a modern server. */
const tasks: Reply = (call, response) => {
  const { extensions } = call.json.params._meta?.["io.modelcontextprotocol/clientCapabilities"] ?? {};
  const needed = { extensions: { "io.modelcontextprotocol/tasks": {} } };
  if (!extensions) return reply(rpcError(-32021, { requiredCapabilities: needed }), 400)(call, response);
  const state = { status: "working", statusMessage: planted("working"), ttlMs: 60_000, pollIntervalMs: 50 };
  return reply({ result: { resultType: "task", taskId: planted("task"), ...state } })(call, response);
};
const large = { content: [{ type: "text", text: filled("large", LARGE) }] };
const huge = { content: [{ type: "text", text: filled("huge", HUGE) }] };

/** By the argument `act`. */
export const mcpActs: Record<string, Reply> = {
  says: reply({ result: said }),
  chatters: chatters(0),
  complains: reply({ result: { ...said, isError: true } }),
  mismatches: reply({ result: { content: [], structuredContent: { n: planted("structured") } } }),
  grows: reply({ result: large }),
  swells: reply({ result: huge }),
  asks,
  "asks-first": reply({
    result: {
      resultType: "input_required",
      requestState: planted("state"),
      inputRequests: { [planted("asked")]: elicited },
    },
  }),
  "asks-elsewhere": reply(
    rpcError(-32042, {
      elicitations: [{ mode: "url", url: `https://${planted("host")}.example/`, elicitationId: planted("id") }],
    }),
  ),
  tasks,
  misspells: reply({ result: { contents: planted("text") } }),
  refuses: reply(rpcError(-32603, { note: planted("data") })),
  "refuses-params": reply(rpcError(-32602, planted("data"))),
  crashes: reply(rpcError(-32603, planted("data")), 500),
  shows: (call, response) => type(200, "text/html", page)(call, response),
  "shows-failure": (call, response) => type(503, "text/html", page)(call, response),
  cuts: (call, response) => reset(call, response),
  halves: async (call, response) => {
    await begin(call, response);
    response.destroy();
  },
  late: chatters(LATE_MS),
  hangs: begin,
};

const OF_TASK: Record<string, object> = {
  "tasks/get": { status: "completed", result: said, statusMessage: planted("done") },
  "tasks/cancel": {},
};

/** An MCP server without sessions, of either revision. */
const mcpServer =
  (isModern: boolean): Handler =>
  (call, response) => {
    const { id, method, params } = call.json ?? {};
    if (method === undefined) asked.get(id)?.();
    if (id === undefined || method === undefined) return void response.writeHead(202).end();
    const speaks = (result: object) => void reply({ result })(call, response);
    const capabilities = { tools: {}, resources: {}, logging: {} };
    if (method === "tools/call") return void mcpActs[params.arguments.act]!(call, response);
    if (method === "tools/list") return speaks({ tools: [tool("work"), tool("strict", { outputSchema: strict })] });
    if (method in OF_TASK) return speaks({ resultType: "complete", taskId: params.taskId, ...OF_TASK[method] });
    if (method === "server/discover" && isModern)
      return speaks({ resultType: "complete", supportedVersions: [modern], capabilities });
    if (method === "initialize" && !isModern)
      return speaks({ protocolVersion: "2025-11-25", capabilities, serverInfo: { name: "planted", version: "1" } });
    return void reply({ error: { code: -32601, message: "Method not found" } })(call, response);
  };

// All of them.

/** The acts of an endpoint of models, by the model. */
export const chatActs = openaiBehaviours;

export type Services = {
  http: Service;
  chat: Service;
  legacy: Service;
  modern: Service;
  /** The call of a service that has this word. */
  arrival(word: string): Promise<Recorded>;
  /** The calls that arrived, by their words. */
  arrived: Map<string, Recorded>;
  stop(): Promise<void>;
};

/** Starts the services. */
export async function startPlanted(): Promise<Services> {
  const arrived = new Map<string, Recorded>();
  const waiting = new Map<string, (call: Recorded) => void>();
  const noting =
    (handler: Handler): Handler =>
    (call, response) => {
      const [word] = /planted-call-\d+-\w+/.exec(call.raw.toString()) ?? [];
      if (word) {
        arrived.set(word, call);
        waiting.get(word)?.(call);
      }
      return handler(call, response);
    };
  const http: Handler = (call, response) =>
    call.method === "DELETE" ? void response.writeHead(204).end() : httpActs[actOf(call)]!(call, response);
  const chat: Handler = (call, response) => chatActs[actOf(call)]!(call, response);
  const probe = json({ object: "list", data: [] });
  const [one, two, three, four] = await Promise.all([
    startService(noting(http)),
    startService(noting(chat), { probe }),
    startService(noting(mcpServer(false)), { probe: (_, response) => void response.writeHead(405).end() }),
    startService(noting(mcpServer(true)), { probe: (_, response) => void response.writeHead(405).end() }),
  ]);
  const all = { http: one, chat: two, legacy: three, modern: four };
  return {
    ...all,
    arrived,
    arrival: (word) => new Promise((resolve) => void waiting.set(word, resolve)),
    async stop() {
      for (const service of Object.values(all)) await service.stop();
    },
  };
}
