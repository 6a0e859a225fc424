// Calls with planted secrets of services whose content is not kept: over each interface, of each transport, with each
// outcome, and with each way in which a client can end them.
import assert from "node:assert/strict";
import { register, serviceAt } from "./arrange.ts";
import type { Gateway } from "./gateway.ts";
import { begin } from "./keepers.ts";
import { claim, message, modernHeaders } from "./mcp.ts";
import { chatBody, picture, planted, unknown } from "./planted.ts";
import { chatActs, contextOf, httpActs, mcpActs, type Services } from "./planted-services.ts";
import type { Recorded } from "./service.ts";
import { next, streamed } from "./sse.ts";

/** Whether its services talk HTTP, MCP or OpenAI's API; in which way they are called. */
type Flavour = { transport: "http" | "legacy" | "modern" | "chat"; durable?: boolean; queues?: boolean };
const flavours: Record<string, Flavour> = {
  durable: { transport: "http" },
  quick: { transport: "http", durable: false },
  queued: { transport: "http", queues: true },
  "quick-queued": { transport: "http", durable: false, queues: true },
  chat: { transport: "chat" },
  "quick-chat": { transport: "chat", durable: false },
  "chat-queued": { transport: "chat", queues: true },
  legacy: { transport: "legacy" },
  modern: { transport: "modern" },
  "legacy-queued": { transport: "legacy", queues: true },
};

const clients = ["waits", "listens", "modern", "legacy", "session"] as const;
type Client = (typeof clients)[number];
/** What its client does once the service has the call. */
type Ending = "leaves" | "cancels" | "notifies" | "resumes";

/** A kind of calls. */
export type Kind = {
  flavour: string;
  act: string;
  client: Client;
  ending?: Ending;
  /** Its service is the one for calls that do not fail, that are left or cancelled, that time out, or that are kept. */
  at?: "well" | "lasting" | "hasty" | "kept";
};

/** Services of a flavour take turns, so that their breakers stay closed. */
const TURNS = 6;
/** How long a call lasts that its service does not answer. */
const LASTS_SECONDS = 5;
/** What is no failure. */
const WELL = ["answers", "grows", "swells", "late", "says", "chatters", "completes", "streams"];

function actsOf({ transport }: Flavour): string[] {
  const acts = { http: httpActs, chat: chatActs, legacy: mcpActs, modern: mcpActs }[transport];
  return Object.keys(acts).filter((act) => !["hangs", "lasts", "stalls"].includes(act));
}

const all = Object.entries(flavours);

/** Calls with every act of every flavour; the clients take turns. */
export const acts: Kind[] = all.flatMap(([flavour, one], number) =>
  actsOf(one).map((act, at) => ({ flavour, act, client: clients[(at + number) % clients.length]! })),
);

/** Calls that their clients, or their deadlines, end: of every flavour, by every client. */
export const endings: Kind[] = all.flatMap(([flavour, { transport }]) => {
  const hangs = { flavour, act: "hangs" };
  return [
    ...clients.flatMap((client): Kind[] => [
      { ...hangs, client, at: "hasty" },
      { ...hangs, client, at: "lasting", ending: "leaves" },
      { ...hangs, client, at: "lasting", ending: "cancels" },
    ]),
    { ...hangs, client: "session", at: "lasting", ending: "notifies" },
    { flavour, act: transport === "chat" ? "streams" : "late", client: "session", ending: "resumes" },
  ];
});

/** Calls in flight for as long as their services are called: of every flavour, by every client. */
export const hanging: Kind[] = all.flatMap(([flavour]) =>
  clients.map((client): Kind => ({ flavour, act: "hangs", client, at: "well" })),
);

const serviceOf = ({ flavour, act, at }: Kind, number: number): string =>
  `${flavour}-${at ?? (WELL.includes(act) ? "well" : number % TURNS)}`;

/** The document of a service of this flavour. */
function documentOf(services: Services, one: Flavour, timeout_seconds: number, content: string): object {
  const { transport, durable = true, queues } = one;
  const { url } = services[transport];
  const members = { content, ...(queues && { limits: { max_concurrency: 2 } }) };
  if (transport === "http") {
    const n = { type: "object", required: ["n"], properties: { n: { type: "integer" } } };
    const offers = [{ name: "work" }, { name: "strict", output_schema: n }];
    const more = { idempotent: true, durable, timeout_seconds };
    return serviceAt(
      url,
      offers.map((offer) => ({ ...offer, ...more })),
      members,
    );
  }
  const document = serviceAt(url, [], members) as Record<string, any>;
  if (transport === "chat") {
    document.transport = { kind: "openai", url: `${url}v1`, model: "completes" };
    document.capabilities = [{ name: "chat", durable, timeout_seconds }];
    document.models = Object.keys(chatActs).map((id) => ({ id }));
    return document;
  }
  document.transport = { kind: "mcp", url: `${url}mcp`, timeout_seconds };
  delete document.capabilities;
  return document;
}

/** Registers all services; one of each flavour keeps the content. */
export async function registerPrivate(gateway: Gateway, services: Services): Promise<void> {
  for (const [flavour, one] of Object.entries(flavours)) {
    const turns = Array.from({ length: TURNS }, (_, turn) => `${turn}`);
    for (const name of [...turns, "well"])
      await register(gateway, `${flavour}-${name}`, documentOf(services, one, 20, "none"));
    await register(gateway, `${flavour}-lasting`, documentOf(services, one, LASTS_SECONDS, "none"));
    await register(gateway, `${flavour}-hasty`, documentOf(services, one, 1, "none"));
    await register(gateway, `${flavour}-kept`, documentOf(services, one, 20, "full"));
  }
}

// The calls.

/** What came of a call. */
export type Outcome = {
  kind: Kind;
  status: number;
  text: string;
  /** Its context, if its service was called. */
  context: string | undefined;
  number: number;
};

/** The parameters of a kind; the service knows the call by this word. */
function parametersOf({ flavour, act }: Kind, word: string): object {
  if (flavours[flavour]!.transport === "chat") return chatBody(act, { ...unknown, user: word });
  return {
    act,
    word,
    text: planted("parameter"),
    [planted("name")]: { deep: [planted("deep"), picture] },
  };
}

const capabilityOf = ({ flavour, act }: Kind): string => {
  if (flavours[flavour]!.transport === "chat") return "chat";
  return act === "mismatches" ? "strict" : "work";
};

/** A request, before it is sent. */
type Asked = { path: string; body: any; headers: Record<string, string> };

/** The request of a call over MCP, whose client asks for all that it can have of it; others only wait. */
async function overMcp(gateway: Gateway, kind: Kind, number: number, word: string): Promise<Asked> {
  const params = { name: `${serviceOf(kind, number)}__${capabilityOf(kind)}`, arguments: parametersOf(kind, word) };
  const streams = kind.ending !== undefined || number % 3 > 0;
  const able = { elicitation: { form: {}, [planted("able")]: { note: planted("ability") } } };
  const _meta = {
    ...(streams && { progressToken: planted(`token-${number}`) }),
    "com.example/note": planted("meta"),
    [`com.example/${planted("meta-name")}`]: { deep: planted("deep-meta") },
    baggage: `note=${planted("baggage")}`,
    ...(kind.client === "modern" && {
      ...claim,
      "io.modelcontextprotocol/clientCapabilities": able,
      "io.modelcontextprotocol/clientInfo": { name: planted("client"), version: "1" },
      ...(streams && { "io.modelcontextprotocol/logLevel": "debug" }),
    }),
  };
  const body = message("tools/call", { ...params, _meta });
  const accept = streams ? "application/json, text/event-stream" : "application/json";
  if (kind.client === "modern")
    return { path: "/mcp", body, headers: { ...modernHeaders("tools/call", params), accept } };
  const session = kind.client === "session" ? (await begin(gateway, "/mcp")).headers : {};
  return { path: "/mcp", body, headers: { accept, "mcp-protocol-version": "2025-11-25", ...session } };
}

function byRest(kind: Kind, number: number, word: string): Asked {
  const body = {
    capability: capabilityOf(kind),
    service: serviceOf(kind, number),
    parameters: parametersOf(kind, word),
    ...(kind.at === "hasty" && { timeout_seconds: 1 }),
  };
  return { path: "/v1/contexts", body, headers: kind.client === "listens" ? { accept: "text/event-stream" } : {} };
}

/** Cancels a call by what its client has. */
async function cancel(gateway: Gateway, { body, headers, path }: Asked, arrived: Recorded, ending: Ending) {
  if (ending === "cancels") {
    const answer = await gateway.request("POST", `/v1/contexts/${contextOf(arrived)}/cancel`);
    // One that is not durable is not known yet.
    assert.ok([200, 202, 404, 409].includes(answer.status), answer.text);
    return answer;
  }
  const notification = {
    jsonrpc: "2.0",
    method: "notifications/cancelled",
    params: { requestId: body.id, reason: planted("reason") },
  };
  return gateway.request("POST", path, { body: notification, headers });
}

/** Breaks the stream of a call in a session once its service has it, and reads it to its end by another. */
async function resume(gateway: Gateway, { headers, path }: Asked, response: Response, arrival: Promise<unknown>) {
  const { id } = await next(streamed(response));
  await arrival;
  return gateway.open("GET", path, { headers: { ...headers, "last-event-id": id! } });
}

/** Requests that are refused before there is a call. */
export async function refusals(gateway: Gateway): Promise<Response[]> {
  const kind: Kind = { flavour: "durable", act: "answers", client: "waits" };
  const { path, body } = byRest(kind, 0, planted("word"));
  const text = JSON.stringify(body);
  const rest = (body: unknown, headers: Record<string, string> = {}) =>
    gateway.open("POST", path, { body, headers: { "content-type": "application/json", ...headers } });
  const called = (params: object) => gateway.open("POST", "/mcp", { body: message("tools/call", params) });
  const parameters = body.parameters;
  return Promise.all([
    rest(text.slice(0, -1)),
    rest(text.replace("{", `{"${planted("member")}":1,`)),
    rest({ ...body, parameters: [parameters] }),
    rest({ ...body, capability: planted("capability").toLowerCase() }),
    rest({ ...body, service: "chat-well", capability: "chat" }),
    rest({ ...body, run_at: "2100-01-01T00:00:00Z" }),
    rest(text, { prefer: "respond-async" }),
    rest(text, { "idempotency-key": planted("key") }),
    rest(text, { "content-type": "text/plain" }),
    rest(text, { authorization: "Bearer unknown" }),
    gateway.open("PUT", `/v1/schedules/private`, { body: { interval_seconds: 3_600, context: body } }),
    called({ name: planted("tool"), arguments: parameters }),
    called({ name: "durable-well__work", arguments: [parameters] }),
    called({ name: "durable-well__work", arguments: parameters, task: { ttl: 60_000 } }),
    called({ name: "chat-well__chat", arguments: parameters }),
    called({
      name: "modern-well__work",
      arguments: parameters,
      _meta: { "com.example/note": "x".repeat(9_000) + planted("meta") },
    }),
  ]);
}

let calls = 0;
const gone = { status: 0, text: "" };

/** Makes a call, and ends it as its kind says. */
export async function makeCall(gateway: Gateway, services: Services, kind: Kind): Promise<Outcome> {
  const number = ++calls;
  const word = planted(`call-${number}`);
  const isRest = kind.client === "waits" || kind.client === "listens";
  const asked = isRest ? byRest(kind, number, word) : await overMcp(gateway, kind, number, word);
  const leaving = new AbortController();
  const arrival = services.arrival(word);
  const opened = gateway.open("POST", asked.path, { ...asked, signal: leaving.signal });
  const read = async (response: Response) => ({ status: response.status, text: await response.text().catch(() => "") });
  const outcome = (answer: typeof gone): Outcome => {
    const call = services.arrived.get(word);
    return { kind, number, ...answer, context: call && contextOf(call) };
  };
  if (kind.ending === "resumes") return outcome(await read(await resume(gateway, asked, await opened, arrival)));
  const whole = opened.then(read).catch(() => gone);
  // Unless it ends in the queue.
  const arrived = kind.ending && (await Promise.race([arrival, whole]));
  if (!arrived || "text" in arrived) return outcome(await whole);
  if (kind.ending === "leaves") leaving.abort();
  else await cancel(gateway, asked, arrived, kind.ending!);
  return outcome(await whole);
}
