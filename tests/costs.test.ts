// What contexts owe besides the tokens of models: the price of a call, and what services state.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, inTurn, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let moody: Service;

const price = { per_call: "0.002", currency: "EUR" };

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  moody = await startService(inTurn(status(500), echo));
  const offers = [{ price }, { name: "look", durable: false, price }, { name: "free" }];
  await register(gateway, "worker", serviceAt(service.url, offers));
  await register(gateway, "moody", serviceAt(moody.url, [{ name: "try", idempotent: true, price }]));
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service, moody].map((one) => one?.stop()));
});

const spendOf = async (name: string) => {
  const { json } = await gateway.request("GET", "/v1/usage?group_by=service");
  return json.data.find(({ service }: any) => service === name)?.spend;
};

test("a_completed_context_owes_the_price_of_a_call_once", async () => {
  for (const capability of ["work", "look"]) {
    const { json } = await create(gateway, { capability });
    assert.deepEqual([json.status, json.cost], ["completed", { amount: "0.002", currency: "EUR", estimated: false }]);
    assert.deepEqual([json.model, json.usage, json.finish_reason], [undefined, undefined, undefined]);
  }
  const { json: free } = await create(gateway, { capability: "free" });
  assert.ok(!("cost" in free), JSON.stringify(free));
  const { json: retried } = await create(gateway, { capability: "try" });
  assert.deepEqual([retried.attempts.length, retried.cost.amount], [2, "0.002"]);
  const { json: events } = await gateway.request("GET", `/v1/contexts/${retried.id}/events`);
  assert.deepEqual(events.data.at(-1).data.cost, retried.cost);
  assert.deepEqual(await spendOf("moody"), [{ amount: "0.002", currency: "EUR", estimated: "0.00" }]);
});

test("a_price_is_shown_with_its_capability_and_checked_when_it_is_written", async () => {
  const { json: shown } = await gateway.request("GET", "/v1/services/worker");
  assert.deepEqual([shown.capabilities[0].price, shown.capabilities[2].price], [price, undefined]);
  const put = (capability: object) =>
    gateway.request("PUT", "/v1/services/wrong", { body: serviceAt(service.url, [capability as any]) });
  const wrong = await put({ price: { per_call: 0.002, currency: "euro", per_token: "1" } });
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")).sort(), [
    "#/capabilities/0/price/currency",
    "#/capabilities/0/price/per_call",
    "#/capabilities/0/price/per_token",
  ]);
  const both = await gateway.request("PUT", "/v1/services/wrong", {
    body: {
      name: "A provider",
      type: "llm",
      transport: { kind: "openai", url: `${service.url}v1` },
      capabilities: [{ name: "chat", price }, { name: "models" }],
      models: [{ id: "small" }],
    },
  });
  assert.deepEqual(pointers(refused(both, 422, "validation_failed")), ["#/capabilities/0/price"]);
});

const usage = { input_tokens: 100, cached_input_tokens: 40, output_tokens: 10, cost: "0.01" };
const tokens = {
  input_tokens: 100,
  cached_input_tokens: 40,
  cache_write_tokens: 0,
  output_tokens: 10,
  reasoning_tokens: 0,
  estimated: false,
};

/** How a context ends whose service gives these responses. */
async function answered(handlers: Parameters<typeof inTurn>, capability: object = {}): Promise<any> {
  const one = await startService(inTurn(...handlers));
  try {
    await register(gateway, "scripted", serviceAt(one.url, [{ name: "tell", ...capability }]));
    return (await create(gateway, { capability: "tell" })).json;
  } finally {
    await gateway.request("DELETE", "/v1/services/scripted", { headers: { "if-match": "*" } });
    await one.stop();
  }
}

test("a_service_states_what_a_call_used_and_cost", async () => {
  const good = await answered([json({ result: 1, usage })], { price });
  assert.deepEqual([good.usage, good.cost], [tokens, { amount: "0.01", currency: "EUR", estimated: false }]);
  assert.deepEqual([good.model, good.finish_reason], [undefined, undefined]);
  const unpriced = await answered([json({ result: 1, usage: { cost: "0.01", estimated: true } })]);
  assert.deepEqual(unpriced.cost, { amount: "0.01", currency: "USD", estimated: true });
  const inTokens = await answered([json({ result: 1, usage: { output_tokens: 1 } })], { price });
  assert.deepEqual([inTokens.usage.output_tokens, inTokens.cost.amount], [1, "0.002"]);
});

test("a_failed_attempt_owes_what_it_states_and_attempts_add_up", async () => {
  const fails = status(500, { error: { code: "no", message: "No." }, usage });
  const retried = await answered([fails, json({ result: 1, usage })], { price, idempotent: true });
  assert.deepEqual([retried.status, retried.attempts.length, retried.cost.amount], ["completed", 2, "0.02"]);
  assert.equal(retried.usage.input_tokens, 200);
  const failed = await answered([json({ error: { code: "no", message: "No." }, usage })], { price });
  assert.deepEqual([failed.status, failed.cost.amount], ["failed", "0.01"]);
  const schema = { output_schema: { type: "string" } };
  const unfit = await answered([json({ result: 1, usage })], schema);
  assert.deepEqual([unfit.error.code, unfit.cost.amount], ["upstream_invalid_response", "0.01"]);
});

test("usage_with_faults_is_logged_and_leaves_the_result", async () => {
  const wrong = await answered([json({ result: 1, usage: { cost: 0.01, input_tokens: -1 } })]);
  assert.deepEqual([wrong.status, wrong.result, wrong.cost], ["completed", 1, undefined]);
  const line = await eventually(() => gateway.logs.find((line) => line.includes("usage not read")));
  assert.ok(line.includes("#/usage/cost") && line.includes("#/usage/input_tokens"), line);
  const other = await answered([json({ result: 1, usage: { prompt_tokens: 1, total_tokens: 1 } })]);
  assert.deepEqual([other.status, other.usage], ["completed", undefined]);
});

test("a_callback_states_usage_and_learns_of_its_faults", async () => {
  const one = await startService(status(202));
  try {
    await register(gateway, "later", serviceAt(one.url, [{ name: "wait", price }]));
    const { id } = await accepted(gateway, { capability: "wait" });
    const url = (await eventually(() => one.calls.at(-1)?.json))?.callback_url;
    const report = (body: object) =>
      fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    const wrong = await report({ result: 1, usage: { cost: 1, total_tokens: 1 } });
    assert.equal(wrong.status, 422);
    assert.deepEqual(pointers((await wrong.json()) as any).sort(), ["#/usage/cost", "#/usage/total_tokens"]);
    assert.equal((await report({ result: 1, usage })).status, 200);
    const context = await ended(gateway, id);
    assert.deepEqual([context.usage, context.cost.amount, context.cost.currency], [tokens, "0.01", "EUR"]);
  } finally {
    await one.stop();
  }
});

test("a_model_without_prices_has_the_list_prices_of_its_provider_at_its_own_host", async () => {
  const own = { currency: "EUR", input: "1" };
  const models = [
    { id: "cheap", upstream: "gpt-5-mini" },
    { id: "dear", upstream: "gpt-5", prices: own },
    { id: "unpriced", upstream: "gpt-5", list_prices: false },
  ];
  const provider = (url: string) => ({ name: "P", type: "llm", transport: { kind: "openai", url }, models });
  await register(gateway, "openai", provider("https://api.openai.com/v1"));
  await register(gateway, "elsewhere", provider(`${service.url}v1`));
  const pricesOf = async (name: string) => (await gateway.request("GET", `/v1/models/${name}?prices=true`)).json.prices;
  const [listed, ...others] = await pricesOf("cheap");
  assert.deepEqual([listed.service, listed.model, listed.origin, others.length], ["openai", "cheap", "list", 0]);
  assert.deepEqual([listed.prices.input, listed.prices.output, listed.prices.currency], ["0.25", "2.00", "USD"]);
  assert.match(listed.prices.as_of, /^\d{4}-\d{2}-\d{2}$/);
  assert.match(listed.prices.source, /^https:/);
  const named = await pricesOf("dear");
  assert.deepEqual(
    named.map(({ service, origin, prices }: any) => [service, origin, prices.currency]),
    [
      ["elsewhere", "service", "EUR"],
      ["openai", "service", "EUR"],
    ],
  );
  assert.deepEqual(await pricesOf("unpriced"), []);
  const all = (await gateway.request("GET", "/v1/models?prices=true")).json.data;
  assert.deepEqual(all.find(({ id }: any) => id === "cheap").prices, [listed]);
  const plain = (await gateway.request("GET", "/v1/models")).json.data;
  const { json: one } = await gateway.request("GET", "/v1/models/cheap");
  assert.ok(!("prices" in one) && plain.length >= 3 && plain.every((model: any) => !("prices" in model)));
});
