// The test service behaves as configured: other tests rely on that.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { echo, half, hang, html, huge, inTurn, reset, slow, startService, status } from "./support/service.ts";

const service = await startService();
after(() => service.stop());

const post = (signal?: AbortSignal) =>
  fetch(service.url, { method: "POST", body: '{"parameters":{"a":1}}', ...(signal && { signal }) });

test("a_service_echoes_and_records_what_it_was_sent", async () => {
  service.handler = echo;
  const first = service.calls.length;
  assert.deepEqual(await (await post()).json(), { result: { a: 1 } });
  const call = await service.call(first);
  assert.equal(call.raw.toString(), '{"parameters":{"a":1}}');
  assert.deepEqual(call.json.parameters, { a: 1 });
});

test("probes_are_kept_apart_from_calls", async () => {
  const { length } = service.calls;
  assert.equal((await fetch(service.url)).status, 200);
  assert.equal(service.calls.length, length);
  assert.equal(service.probes.length, 1);
});

test("handlers_take_turns_and_the_last_one_stays", async () => {
  service.handler = inTurn(status(503), html, slow(5, status(429, { late: true })));
  assert.equal((await post()).status, 503);
  assert.equal((await post()).headers.get("content-type"), "text/html");
  assert.equal((await post()).status, 429);
  assert.deepEqual(await (await post()).json(), { late: true });
});

test("half_a_response_and_a_reset_are_errors_to_the_caller", async () => {
  service.handler = half;
  await assert.rejects(post().then((response) => response.text()));
  service.handler = reset;
  await assert.rejects(post());
});

test("a_hanging_service_notices_that_its_caller_disconnected", async () => {
  service.handler = hang;
  const next = service.calls.length;
  await assert.rejects(post(AbortSignal.timeout(50)), { name: "TimeoutError" });
  const call = await service.call(next);
  while (!call.abandoned) await new Promise(setImmediate);
});

test("a_huge_response_has_exactly_the_requested_size", async () => {
  service.handler = huge(1_000_003);
  assert.equal((await (await post()).arrayBuffer()).byteLength, 1_000_003);
});
