// What contexts owe besides the tokens of models: the price of a call.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, inTurn, type Service, startService, status } from "./support/service.ts";

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
