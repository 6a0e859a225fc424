// @ts-check
// The baseline of the benchmark: a hand-written Worker in plain JavaScript with the same path (the same
// object hops, rows and call to the service) and no checks: no credentials, schema, limits, leases or
// deadlines. The gateway's additional cost is the cost of its features.
import { DurableObject } from "cloudflare:workers";
import { forward, passThrough } from "./models.mjs";

/**
 * @typedef {{ CONTEXTS: DurableObjectNamespace<ContextStore>, EVENTS: DurableObjectNamespace<EventHub>,
 *   UPSTREAM: string, COUNT_COSTS?: string, KEY_SHA256: string, PROVIDER: string, PROVIDER_KEY: string }} Env
 * @typedef {Record<string, any> & { id: string }} Context
 */

const STORES = 4;
const LIFE_MS = 60_000;

/** Ids are hashes of names: computed once per isolate, as the gateway does. @type {Map<string, DurableObjectId>} */
const objectIds = new Map();

/** @template {Rpc.DurableObjectBranded} T @param {DurableObjectNamespace<T>} namespace @param {string} name */
function object(namespace, name) {
  let id = objectIds.get(name);
  if (!id) objectIds.set(name, (id = namespace.idFromName(name)));
  return namespace.get(id);
}

/**
 * The store's number is in the context's id, so a read finds it with no look-up.
 * @param {Env} env @param {string} id
 */
const storeOf = (env, id) => object(env.CONTEXTS, `store-${id.charAt(4)}`);

const now = () => new Date().toISOString();

/** @param {string} text @param {number} status @param {Record<string, string>} [headers] */
const answer = (text, status, headers) =>
  new Response(text, { status, headers: { "content-type": "application/json", ...headers } });

export default {
  /** @param {Request} request @param {Env} env @param {ExecutionContext} ctx */
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const path = url.pathname;
    if (path === "/health") return answer('{"status":"ok","version":"0.1.0","commit":null}', 200);
    if (path === "/v1/contexts" && request.method === "POST")
      return create(request, env, ctx, url.searchParams.has("tell"));
    if (path.startsWith("/v1/contexts/")) {
      const id = path.slice("/v1/contexts/".length);
      const text = await storeOf(env, id).read(id);
      return text ? answer(text, 200) : answer('{"code":"not_found"}', 404);
    }
    if (path === "/v1/chat/completions") return forward(request, env, ctx);
    if (path === "/floor/v1/chat/completions") return passThrough(request, env);
    if (path === "/v1/events") return object(env.EVENTS, "hub").fetch(request);
    if (path === "/v1/costs" && env.COUNT_COSTS === "true") return answer(await costs(env), 200);
    return answer('{"code":"not_found"}', 404);
  },
};

/** @param {Request} request @param {Env} env @param {ExecutionContext} ctx @param {boolean} tell */
async function create(request, env, ctx, tell) {
  const context = begin(await request.json());
  const store = storeOf(env, context.id);
  if (context.capability === "lookup") {
    const text = end(context, await call(env, context));
    ctx.waitUntil(store.record(context.id, text));
    return answer(text, 200);
  }
  const live = JSON.stringify(context);
  await store.admit(context.id, live);
  const run = async () => {
    const text = end(context, await call(env, context));
    await store.commit(context.id, text, tell);
    return text;
  };
  if (request.headers.get("prefer") === "respond-async") {
    ctx.waitUntil(run());
    return answer(live, 202, { location: `/v1/contexts/${context.id}`, "retry-after": "1" });
  }
  return answer(await run(), 200);
}

/**
 * A context in the contract's shape, so that documents and answers are as long as the gateway's.
 * @param {any} asked @returns {Context}
 */
function begin(asked) {
  const at = now();
  const shard = Math.floor(Math.random() * STORES);
  return {
    id: `ctx_${shard}${crypto.randomUUID().replaceAll("-", "")}`,
    capability: asked.capability,
    version: "1.0.0",
    service: "bench",
    parameters: asked.parameters,
    priority: "normal",
    source: "user",
    metadata: {},
    status: "executing",
    owner: "key:comparator",
    tenant: "default",
    attempts: [],
    history: ["created", "validated", "queued", "executing"].map((status) => ({ status, at })),
    created_at: at,
    updated_at: at,
    expires_at: new Date(Date.now() + LIFE_MS).toISOString(),
  };
}

/** @param {Env} env @param {Context} context */
async function call(env, context) {
  const response = await fetch(env.UPSTREAM, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      context_id: context.id,
      capability: context.capability,
      version: context.version,
      parameters: context.parameters,
      attempt: 1,
      deadline: context.expires_at,
    }),
  });
  return (await response.json()).result;
}

/** @param {Context} context @param {unknown} result */
function end(context, result) {
  const at = now();
  context.status = "completed";
  context.result = result;
  context.attempts.push({
    number: 1,
    service: "bench",
    outcome: "succeeded",
    started_at: context.created_at,
    ended_at: at,
    status_code: 200,
  });
  context.history.push({ status: "completed", at });
  context.execution_time_ms = Date.parse(at) - Date.parse(context.created_at);
  context.updated_at = at;
  return JSON.stringify(context);
}

/** @param {Env} env */
async function costs(env) {
  const stores = await Promise.all(
    Array.from({ length: STORES }, (_, index) => object(env.CONTEXTS, `store-${index}`).costs()),
  );
  const hub = await object(env.EVENTS, "hub").costs();
  const sum = (/** @type {"contexts" | "rows" | "requests"} */ member) =>
    stores.reduce((total, one) => total + one[member], 0);
  return JSON.stringify({
    contexts: sum("contexts"),
    rows_written: { store: sum("rows"), hub: hub.rows, registry: 0 },
    object_requests: { store: sum("requests"), hub: hub.requests, registry: 0 },
    alarms_set: 0,
  });
}

/** @extends {DurableObject<Env>} */
export class ContextStore extends DurableObject {
  counted = { contexts: 0, rows: 0, requests: 0 };

  /** @param {DurableObjectState} state @param {Env} env */
  constructor(state, env) {
    super(state, env);
    this.environment = env;
    this.sql = state.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS contexts (id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID");
  }

  /** @param {string} statement @param {...string} values */
  write(statement, ...values) {
    this.counted.rows += this.sql.exec(statement, ...values).rowsWritten;
  }

  /** @param {string} id @param {string} document */
  admit(id, document) {
    this.counted.requests += 1;
    this.counted.contexts += 1;
    this.write("INSERT INTO contexts VALUES (?, ?)", id, document);
  }

  /** @param {string} id @param {string} document @param {boolean} tell */
  commit(id, document, tell) {
    this.counted.requests += 1;
    this.write("UPDATE contexts SET document = ? WHERE id = ?", document, id);
    if (tell) this.ctx.waitUntil(object(this.environment.EVENTS, "hub").publish(id, document));
  }

  /** @param {string} id @param {string} document */
  record(id, document) {
    this.counted.requests += 1;
    this.counted.contexts += 1;
    this.write("INSERT INTO contexts VALUES (?, ?)", id, document);
  }

  /** @param {string} id */
  read(id) {
    this.counted.requests += 1;
    for (const row of this.sql.exec("SELECT document FROM contexts WHERE id = ?", id)) return String(row.document);
    return null;
  }

  costs() {
    return this.counted;
  }
}

/** @extends {DurableObject<Env>} */
export class EventHub extends DurableObject {
  counted = { rows: 0, requests: 0 };

  /** @param {DurableObjectState} state @param {Env} env */
  constructor(state, env) {
    super(state, env);
    this.sql = state.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS log (sequence INTEGER PRIMARY KEY, event TEXT NOT NULL)");
    this.sequence = Number(this.sql.exec("SELECT coalesce(max(sequence), 0) AS last FROM log").one().last);
  }

  /** @param {Request} request */
  fetch(request) {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    const protocol = request.headers.get("sec-websocket-protocol");
    return new Response(null, {
      status: 101,
      webSocket: client,
      headers: protocol ? { "sec-websocket-protocol": protocol } : {},
    });
  }

  /** @param {string} subject @param {string} document */
  publish(subject, document) {
    this.counted.requests += 1;
    this.sequence += 1;
    const event = JSON.stringify({
      specversion: "1.0",
      id: crypto.randomUUID(),
      source: "/tenants/default",
      type: "context.completed",
      subject,
      time: now(),
      sequence: String(this.sequence).padStart(16, "0"),
      datacontenttype: "application/json",
      data: JSON.parse(document),
    });
    this.counted.rows += this.sql.exec("INSERT INTO log VALUES (?, ?)", this.sequence, event).rowsWritten;
    for (const socket of this.ctx.getWebSockets()) socket.send(event);
  }

  /** @param {WebSocket} socket @param {number} code */
  webSocketClose(socket, code) {
    socket.close(code === 1005 || code === 1006 ? 1000 : code);
  }

  costs() {
    return this.counted;
  }
}
