// How long a revoked key is still accepted, measured from the response to the revocation: in this and in another
// isolate, which learns of it only from stores and the registry.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { slowness } from "./support/patience.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ elsewhere: true });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url, [{ name: "work" }, { name: "look", durable: false }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

type Asks = (key: string) => Promise<number>;
const here =
  (method: string, path: string, body?: object): Asks =>
  async (key) =>
    (await gateway.request(method, path, { key, ...(body && { body }) })).status;
const there =
  (method: string, path: string, body?: object): Asks =>
  (key) =>
    gateway.askElsewhere(method, path, key, body);
const durable = ["POST", "/v1/contexts", { capability: "work" }] as const;
const quick = ["POST", "/v1/contexts", { capability: "look" }] as const;
/**
 * How long after the response a request may begin that is still accepted; undefined: none is. It may take twice as long
 * on a machine on which far more runs than it has cores for.
 */
const ways: Record<string, { ask: Asks; withinMs?: number }> = {
  "a durable context, here": { ask: here(...durable) },
  "a durable context, in another isolate": { ask: there(...durable) },
  "whoami, in another isolate": { ask: there("GET", "/v1/whoami") },
  "a list, in another isolate": { ask: there("GET", "/v1/contexts") },
  "a call with durable: false, in another isolate": { ask: there(...quick), withinMs: 2_500 },
};

for (const [name, { ask, withinMs }] of Object.entries(ways)) {
  test(`a_revoked_key_is_refused_with_the_next_admission: ${name}`, async (context) => {
    /** When each accepted request began, after the response to the revocation; its duration does not count. */
    const seen: number[] = [];
    for (let turn = 0; turn < 5; turn++) {
      const { id, secret } = await makeKey(gateway, "caller");
      assert.equal(await ask(secret), 200);
      assert.equal((await gateway.request("DELETE", `/v1/keys/${id}`)).status, 204);
      const answered = performance.now();
      for (;;) {
        const began = performance.now() - answered;
        if ((await ask(secret)) === 401) break;
        seen.push(began);
        assert.ok(
          withinMs !== undefined && began <= withinMs * Math.min(2, slowness()),
          `${name}: accepted ${began.toFixed(1)} ms after the revocation`,
        );
      }
    }
    const last = seen.length === 0 ? "none" : `the last after ${Math.max(...seen).toFixed(1)} ms`;
    context.diagnostic(`requests accepted after the revocation: ${last}`);
    console.log(`revocation, ${name}: requests accepted afterwards: ${last}`);
  });
}
