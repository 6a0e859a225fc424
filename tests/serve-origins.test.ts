// `narthex serve --allow-origin`: private services are reached at exactly the origins that are named.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, register, serviceAt } from "./support/arrange.ts";
import { pairOf, secureService } from "./support/certificates.ts";
import { newFolder, notHere, serve, type Served } from "./support/serve.ts";
import { echo, json, type Service, startService } from "./support/service.ts";

/** As users run it: without what tests allow. */
const env = { ALLOW_LOOPBACK: "false" };
const chat = { model: "small", messages: [{ role: "user", content: "Good morning" }] };
const completion = {
  id: "1",
  object: "chat.completion",
  created: 1,
  model: "small",
  choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
};

describe("private origins", { skip: notHere }, () => {
  let service: Service;
  let named: Service;
  let other: Service;
  let gateway: Served;
  before(async () => {
    service = await startService(echo);
    named = await startService(json(completion));
    other = await startService(echo);
    const origins = [`http://127.0.0.1:${service.port}`, `http://localhost:${named.port}`];
    gateway = await serve({ env, args: origins.flatMap((origin) => ["--allow-origin", origin]) });
  });
  after(async () => {
    await Promise.all([service, named, other].map((one) => one?.stop()));
    await gateway?.stop();
  });

  test("are_called_at_an_address_and_at_a_name", async () => {
    await register(gateway, "address", serviceAt(service.url));
    assert.equal((await create(gateway, { parameters: { a: 1 } })).json.result.a, 1);
    const transport = { kind: "openai", url: `http://localhost:${named.port}/v1` };
    await register(gateway, "named", { name: "A model server", type: "llm", transport, models: [{ id: "small" }] });
    const answer = await gateway.request("POST", "/v1/chat/completions", { body: chat });
    assert.equal(answer.json.choices[0].message.content, "Hello", answer.text);
  });

  test("do_not_open_their_neighbours", async () => {
    for (const url of [other.url, `http://localhost:${service.port}/`, `https://127.0.0.1:${service.port}/`]) {
      const refusal = await gateway.request("PUT", "/v1/services/other", { body: serviceAt(url) });
      assert.equal(refusal.status, 422, refusal.text);
      assert.match(refusal.json.errors[0].detail, /narthex serve --allow-origin/);
    }
  });

  test("are_closed_again_once_they_are_not_named", async () => {
    const { data, port } = gateway;
    await gateway.stop();
    gateway = await serve({ env, data, port });
    const { calls } = service;
    const before = calls.length;
    const answer = await create(gateway);
    assert.equal(answer.json.status, "failed", answer.text);
    assert.equal(calls.length, before);
  });
});

test("a_private_service_with_a_certificate_of_its_own_authority_is_called", { skip: notHere }, async (t) => {
  const pair = pairOf(newFolder());
  const origin = await secureService(t, pair);
  const gateway = await serve({ env, args: ["--ca", pair.cert, `--allow-origin=${origin}`] });
  await register(gateway, "worker", serviceAt(`${origin}/`));
  assert.equal((await create(gateway)).json.result, 1);
  await gateway.stop();
});
