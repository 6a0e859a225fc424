// Calls of models with planted secrets, of every kind: that complete, fail, fall back, are left, converted and refused.
import assert from "node:assert/strict";
import { eventually, register } from "./arrange.ts";
import type { Gateway } from "./gateway.ts";
import {
  anthropicBehaviours,
  chatBody,
  messageBody,
  openaiBehaviours,
  planted,
  responseBody,
  unknown,
} from "./planted.ts";
import type { Recorded, Service } from "./service.ts";
import { json, startService } from "./service.ts";

/** A kind of calls. */
export type Kind = {
  path: string;
  /** May depend on the number of the call. */
  body: object | string | ((number: number) => object);
  headers?: Record<string, string>;
  /** When its client leaves. */
  leaves?: "midway" | "before the first piece";
  /** The statuses that it may have. */
  status: number[];
  /** The response shows a secret to its client. */
  shows?: boolean;
};

const CHAT = "/v1/chat/completions";
const stream = { stream: true };
const chat = (model: string, status: number | number[], more: object = {}): Kind => ({
  path: CHAT,
  body: chatBody(model, { ...unknown, ...more }),
  status: [status].flat(),
});
const message = (model: string, status: number | number[], more: object = {}): Kind => ({
  path: "/v1/messages",
  body: messageBody(model, more),
  status: [status].flat(),
});
const response = (model: string, status: number | number[], more: object = {}): Kind => ({
  path: "/v1/responses",
  body: responseBody(model, more),
  status: [status].flat(),
});
/** A word by which the provider knows a call. */
const wordOf = (number: number) => planted(`call-${number}-`);
const leaving = (path: string, body: (word: string) => object): Kind => ({
  path,
  body: (number) => body(wordOf(number)),
  leaves: "before the first piece",
  status: [0],
});
/** Failures of a provider: its breaker opens after some of them, so that many services take turns. */
const AILING = 10;
const ailingService = (isAnthropic: boolean, number: number) => `${isAnthropic ? "claude" : "open"}-${number % AILING}`;
const ailing = (path: string, body: (model: string) => object, behaviour: string): Kind => ({
  path,
  body: (number) => body(`${ailingService(behaviour in anthropicBehaviours, number)}/${behaviour}`),
  status: [200, 500, 502, 503, 529],
});
const plain = { "content-type": "text/plain" };
const asking = (model: string) => JSON.stringify(chatBody(model));

/** Every kind. */
export const kinds: Kind[] = [
  // Responses.
  { ...chat("completes", 200), shows: true },
  { ...chat("streams", 200, stream), shows: true },
  { ...message("says-whole", 200, { [planted("member")]: planted("unknown") }), shows: true },
  { ...message("says-in-pieces", 200, stream), shows: true },
  {
    path: "/v1/embeddings",
    body: { model: "embeds", input: [planted("input")], user: planted("user") },
    status: [200],
    shows: true,
  },
  { path: "/v1/messages/count_tokens", body: messageBody("counts"), status: [200] },
  // Converted ones.
  { ...message("completes", 200), shows: true },
  { ...message("streams", 200, stream), shows: true },
  { ...response("completes", 200), shows: true },
  { ...response("streams", 200, stream), shows: true },
  { path: CHAT, body: chatBody("says-whole"), status: [200], shows: true },
  { path: CHAT, body: chatBody("says-in-pieces", stream), status: [200], shows: true },
  { ...response("says-in-pieces", 200, stream), shows: true },
  message("refuses", 400),
  { path: CHAT, body: chatBody("says-no"), status: [400] },
  ailing("/v1/messages", (model) => messageBody(model, stream), "errs"),
  ailing(CHAT, (model) => chatBody(model, stream), "says-error"),
  { path: "/v1/messages/count_tokens", body: messageBody("completes"), status: [200] },
  // Errors of each class.
  chat("refuses", 400),
  chat("grumbles", 400),
  chat("locks", 502),
  chat("charges", 402),
  chat("misses", 404),
  chat("limits", 429),
  chat("overflows", 400),
  chat("filters", 400),
  chat("babbles", 502),
  ailing(CHAT, (model) => chatBody(model, unknown), "fails"),
  ailing(CHAT, (model) => chatBody(model, unknown), "shows"),
  ailing(CHAT, (model) => chatBody(model, unknown), "cuts"),
  ailing(CHAT, (model) => chatBody(model, { ...unknown, ...stream }), "stumbles"),
  ailing(CHAT, (model) => chatBody(model, { ...unknown, ...stream }), "errs"),
  ailing(CHAT, (model) => chatBody(model, { ...unknown, ...stream }), "mutters"),
  ailing(CHAT, (model) => chatBody(model, { ...unknown, ...stream }), "breaks"),
  message("says-no", 400),
  ailing("/v1/messages", (model) => messageBody(model, stream), "says-half"),
  ailing("/v1/messages", (model) => messageBody(model), "says-later"),
  { ...chat("hangs", 504), headers: { "x-narthex-timeout": "0.3" } },
  chat("slow/hangs", [504, 503], stream),
  chat("slow/stalls", [200, 503], stream),
  // Fallbacks.
  { ...chat("falls-back", 200), shows: true },
  { ...chat("falls-back", 200, stream), shows: true },
  { ...message("falls-across", 200, stream), shows: true },
  // Clients that leave.
  { ...chat("lasts", 200, stream), leaves: "midway" },
  { ...message("lasts", 200, stream), leaves: "midway" },
  { ...message("says-forever", 200, stream), leaves: "midway" },
  { ...response("lasts", 200, stream), leaves: "midway" },
  leaving(CHAT, (user) => chatBody("hangs", { ...unknown, user, stream: true })),
  leaving(CHAT, (user) => chatBody("hangs", { ...unknown, user })),
  leaving("/v1/messages", (word) => messageBody("hangs", { stop_sequences: [word], stream: true })),
  // Refusals of the gateway.
  { ...chat("limited", 429), headers: { "x-session-id": planted("session") } },
  message("limited", 429, stream),
  chat("unheard-of", 404),
  { path: CHAT, body: asking("completes").replace("{", `{"model":"${planted("model")}",`), status: [400] },
  { path: CHAT, body: asking("completes").slice(0, -1), status: [400] },
  { path: CHAT, body: JSON.stringify([chatBody("completes")]), status: [400] },
  { path: CHAT, body: chatBody("completes", { stream: planted("stream") }), status: [400] },
  { path: CHAT, body: chatBody("says-whole", unknown), status: [400] },
  { path: CHAT, body: asking("completes"), headers: plain, status: [415] },
  { path: CHAT, body: asking("completes"), headers: { authorization: "Bearer unknown" }, status: [401] },
  message("completes", 400, { [planted("member")]: planted("unknown") }),
  response("completes", 400, { store: true }),
  response("completes", 400, { previous_response_id: planted("previous") }),
  { path: "/v1/completions", body: { model: "completes", prompt: planted("prompt") }, status: [404] },
];

/** Who waits for the provider to get a call, by what the call has. */
const arrivals = new Map<string, () => void>();

const byModel =
  (behaviours: typeof openaiBehaviours) =>
  (call: Recorded, answer: Parameters<(typeof openaiBehaviours)[string]>[1]) => {
    for (const [word, arrived] of arrivals) if (call.raw.includes(word)) arrived();
    const handler = behaviours[call.json.model];
    assert.ok(handler, call.json.model);
    return handler(call, answer);
  };

/** Registers the providers, routes and limits of these calls; returns the providers. */
export async function registerProviders(gateway: Gateway): Promise<Service[]> {
  const probe = json({ object: "list", data: [] });
  const openai = await startService(byModel(openaiBehaviours), { probe });
  const anthropic = await startService(byModel(anthropicBehaviours), { probe });
  const offers = (behaviours: object) => Object.keys(behaviours).map((id) => ({ id }));
  const provider = (kind: string, url: string, models: object[]) => ({
    name: kind,
    type: "llm",
    transport: { kind, url },
    models,
  });
  await register(gateway, "open", provider("openai", `${openai.url}v1`, offers(openaiBehaviours)));
  await register(gateway, "claude", provider("anthropic", anthropic.url, offers(anthropicBehaviours)));
  await register(gateway, "well", provider("openai", `${openai.url}v1`, [{ id: "kept", upstream: "completes" }]));
  const slow = provider("openai", `${openai.url}v1`, offers(openaiBehaviours));
  const impatient = { first_piece_seconds: 1, stream_idle_seconds: 1 };
  await register(gateway, "slow", { ...slow, transport: { ...slow.transport, ...impatient } });
  const limited = provider("openai", `${openai.url}v1`, [{ id: "limited", upstream: "completes" }]);
  await register(gateway, "narrow", limited);
  for (let number = 0; number < AILING; number++) {
    await register(
      gateway,
      ailingService(false, number),
      provider("openai", `${openai.url}v1`, offers(openaiBehaviours)),
    );
    await register(
      gateway,
      ailingService(true, number),
      provider("anthropic", anthropic.url, offers(anthropicBehaviours)),
    );
  }
  const put = async (path: string, body: object) => {
    const answer = await gateway.request("PUT", path, { body });
    assert.equal(answer.status, 201, answer.text);
  };
  const tiers = (...targets: [string, string][]) => ({
    targets: targets.map(([service, model], tier) => ({ service, model, tier })),
    fallback_on: ["auth", "not_found", "context_length", "content_filter"],
  });
  await put(
    "/v1/model-routes/falls-back",
    tiers(["open", "misses"], ["open", "locks"], ["open", "streams"], ["open", "completes"]),
  );
  await put(
    "/v1/model-routes/falls-across",
    tiers(["open", "overflows"], ["open", "filters"], ["claude", "says-in-pieces"]),
  );
  await put("/v1/limits/none-left", {
    kind: "requests",
    quota: 1,
    window_seconds: 3_600,
    binds: { service: "narrow" },
  });
  // The only one that is allowed.
  await eventually(async () => (await gateway.request("POST", CHAT, { body: chatBody("limited") })).status === 429);
  return [openai, anthropic];
}

/** What came of a call. */
export type Outcome = { kind: Kind; status: number; text: string; context: string | null };

let number = 0;

/** Makes a call, and leaves it if its kind says so. */
export async function makeCall(gateway: Gateway, kind: Kind): Promise<Outcome> {
  const { path, leaves } = kind;
  const own = ++number;
  // Not the same number for all calls of a kind.
  const turn = own + Math.floor(own / kinds.length);
  const body = typeof kind.body === "function" ? kind.body(turn) : kind.body;
  const headers = { "content-type": "application/json", ...kind.headers };
  const controller = new AbortController();
  const arrived = new Promise<void>((resolve) => {
    if (leaves === "before the first piece") arrivals.set(wordOf(turn), resolve);
  });
  const asked = gateway.open("POST", path, { body, headers, signal: controller.signal });
  if (leaves === "before the first piece") {
    const gone = asked.then(
      async (answer) => assert.fail(`it responded: ${answer.status} ${await answer.text()}`),
      () => {},
    );
    await arrived;
    arrivals.delete(wordOf(turn));
    controller.abort();
    await gone;
    return { kind, status: 0, text: "", context: null };
  }
  const answer = await asked;
  const context = answer.headers.get("x-narthex-context");
  if (leaves) {
    const piece = await answer.body!.getReader().read();
    controller.abort();
    return { kind, status: answer.status, text: Buffer.from(piece.value ?? []).toString(), context };
  }
  return { kind, status: answer.status, text: await answer.text().catch(() => ""), context };
}
