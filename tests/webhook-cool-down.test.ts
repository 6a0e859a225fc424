// Webhooks back off as a whole while their receiver is down, and their secrets rotate without interruption.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { create, eventually, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Handler, type Recorded, reset, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
const receivers: Service[] = [];

before(async () => {
  gateway = await startGateway({ vars: { WEBHOOK_RETRY_SECONDS: "1,600" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service, ...receivers].map((one) => one?.stop()));
});

async function receiver(handler: Handler): Promise<Service> {
  const made = await startService(handler);
  receivers.push(made);
  return made;
}

const get = async (id: string) => (await gateway.request("GET", `/v1/webhooks/${id}`)).json;
const remove = (id: string) => gateway.request("DELETE", `/v1/webhooks/${id}`, { headers: { "if-match": "*" } });
const rotate = (id: string, body?: object, key = gateway.adminKey) =>
  gateway.request("POST", `/v1/webhooks/${id}/rotate-secret`, { key, ...(body && { body }) });

async function subscribe(id: string, url: string): Promise<string> {
  const answer = await gateway.request("PUT", `/v1/webhooks/${id}`, { body: { url, types: ["context.completed"] } });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.secret;
}

const idOf = ({ headers }: Recorded) => String(headers["webhook-id"]);

for (const [name, away] of [
  ["breaks", reset],
  ["is-away", status(503)],
] as const) {
  test(`where_a_receiver_${name}_one_event_tries_for_all_and_then_the_rest_follows`, async () => {
    const here = await receiver(away);
    await subscribe(name, here.url);
    const made = [(await create(gateway)).json.id];
    await eventually(async () => (await get(name)).resting_until !== null);
    // From now on, it is always the first event, and no later one is tried beside it.
    while (made.length < 12) made.push((await create(gateway)).json.id);
    const resting = await eventually(async () => {
      const seen = await get(name);
      return seen.resting_until !== null && seen.waiting === 12 ? seen : null;
    });
    assert.deepEqual([resting.status, resting.reason], ["active", null]);
    const before = here.calls.length;
    await gateway.evict("EventHub", "default");
    await here.call(before + 1);
    const tries = here.calls.map(idOf);
    assert.equal(new Set(tries).size, 1, tries.join());
    assert.ok((await get(name)).resting_until !== null);
    const last = here.calls.length;
    here.handler = status(204);
    await eventually(async () => (await get(name)).waiting === 0);
    const taken = here.calls.slice(last).map(({ json }) => json.subject);
    assert.deepEqual(new Set(taken), new Set(made));
    assert.equal(taken.length, made.length, "each once");
    assert.deepEqual([(await get(name)).resting_until, (await get(name)).failing_since], [null, null]);
    await remove(name);
  });
}

test("while_a_secret_is_rotated_both_sign", async () => {
  const here = await receiver(status(204));
  const old = await subscribe("rotated", here.url);
  const verify = (secret: string, { raw, headers }: Recorded) =>
    new Webhook(secret).verify(raw.toString(), headers as Record<string, string>);
  const answer = await rotate("rotated", { overlap_seconds: 3600 });
  assert.equal(answer.status, 200, answer.text);
  const { secret, overlap_until } = answer.json;
  assert.match(secret, /^whsec_/);
  assert.notEqual(secret, old);
  assert.ok(Date.parse(overlap_until) > Date.now() + 3_000_000);
  const { json: shown } = await gateway.request("GET", "/v1/webhooks/rotated");
  assert.deepEqual([shown.secret, shown.overlap_until], [undefined, overlap_until]);
  await create(gateway);
  const both = await here.call(0);
  assert.equal(String(both.headers["webhook-signature"]).split(" ").length, 2);
  verify(secret, both);
  verify(old, both);
  // A write without a secret keeps both.
  const put = { url: here.url, types: ["context.completed"] };
  await gateway.request("PUT", "/v1/webhooks/rotated", { body: put, headers: { "if-match": "*" } });
  assert.equal((await get("rotated")).overlap_until, overlap_until);
  // Without an overlap, and with a given secret, the old ones become invalid.
  const own = `whsec_${Buffer.alloc(32, 9).toString("base64")}`;
  const again = await rotate("rotated", { overlap_seconds: 0, secret: own });
  assert.deepEqual([again.json.secret, again.json.overlap_until], [undefined, null]);
  await create(gateway);
  const last = await here.call(1);
  verify(own, last);
  assert.throws(() => verify(secret, last));
  const audit = await gateway.request("GET", "/v1/audit?object=webhooks/rotated");
  assert.ok(
    audit.json.data.some(({ action }: any) => action === "webhook.secret_rotated"),
    audit.text,
  );
  for (const kept of [old, secret, own]) assert.ok(!audit.text.includes(kept));
});

test("rotation_requires_the_permission_to_write_webhooks_and_faults_are_reported", async () => {
  refused(await rotate("none"), 404, "not_found");
  await subscribe("faults", "https://hooks.example.com/");
  assert.deepEqual(
    pointers(refused(await rotate("faults", { overlap_seconds: -1, secret: "x" }), 422, "validation_failed")),
    ["#/overlap_seconds", "#/secret"],
  );
  const { secret } = await makeKey(gateway, "bare", ["webhooks:read"]);
  refused(await rotate("faults", undefined, secret), 403, "permission_denied");
  const made = await rotate("faults");
  assert.ok(Date.parse(made.json.overlap_until) > Date.now() + 86_000_000, "a day when nothing is said");
});

test("the_status_of_a_receiver_decides_whatever_comes_after_it", async () => {
  const unending: Handler = (_, response) =>
    void response.writeHead(200, { "content-type": "text/plain" }).write("thank you");
  const here = await receiver(unending);
  await subscribe("unending", here.url);
  await subscribe("away", (await receiver(status(521))).url);
  await create(gateway);
  await here.call(0);
  const delivered = await eventually(async () => {
    const { json: list } = await gateway.request("GET", "/v1/webhooks/unending/deliveries");
    return list.data[0]?.status === "delivered" && list.data[0];
  });
  assert.equal(here.calls.length, 1, JSON.stringify(delivered));
  const resting = await eventually(async () => {
    const webhook = await get("away");
    return webhook.resting_until && webhook;
  });
  assert.deepEqual([resting.status, resting.waiting], ["active", 1]);
});
