// Request ids and traces: adopted if they are well-formed, replaced otherwise, passed on to services.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

test("a_valid_request_id_is_adopted_and_any_other_is_replaced", async () => {
  for (const id of ["abc-123", "7f3c1b9e-3b1f-4a55-9d59-4b7c1d6f8a10", "A_b.c:9"]) {
    for (const path of ["/v1/whoami", "/v1/nothing"]) {
      const answer = await gateway.request("GET", path, { headers: { "x-request-id": id } });
      assert.equal(answer.headers.get("x-request-id"), id);
      if (answer.status === 404) assert.equal(answer.json.request_id, id);
    }
  }
  for (const id of ["a b", "ü", "<script>", '"quoted"', "x".repeat(300), "a,b"]) {
    const answer = await gateway.request("GET", "/v1/nothing", {
      headers: { "x-request-id": Buffer.from(id).toString("latin1") },
    });
    assert.match(answer.headers.get("x-request-id")!, /^req_[a-z0-9]+$/, id);
  }
  const [one, two] = [await gateway.request("GET", "/health"), await gateway.request("GET", "/health")];
  assert.notEqual(one.headers.get("x-request-id"), two.headers.get("x-request-id"));
});

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const parentId = "00f067aa0ba902b7";

test("a_trace_is_adopted_and_passed_to_the_service_with_new_parents", async () => {
  const calls = service.calls.length;
  const answer = await create(gateway, {}, { headers: { traceparent: `00-${traceId}-${parentId}-01` } });
  const call = await service.call(calls);
  const sent = String(call.headers.traceparent).match(/^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/)!;
  const returned = answer.headers.get("traceparent")!.match(/^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/)!;
  assert.equal(sent[1], traceId);
  assert.equal(returned[1], traceId);
  assert.equal(new Set([parentId, sent[2], returned[2]]).size, 3);
});

test("a_tracestate_is_passed_to_the_service_with_its_trace", async () => {
  const calls = service.calls.length;
  await create(
    gateway,
    {},
    { headers: { traceparent: `00-${traceId}-${parentId}-01`, tracestate: "vendor=1,other=2" } },
  );
  assert.match(String((await service.call(calls)).headers.tracestate), /(^|,)vendor=1,other=2$/);
});

test("a_broken_trace_is_replaced_by_a_new_one", async () => {
  for (const broken of [
    "",
    "nonsense",
    `00-${traceId}-${parentId}`,
    `ff-${traceId}-${parentId}-01`,
    `00-${traceId.toUpperCase()}-${parentId}-01`,
    `00-${"0".repeat(32)}-${parentId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId}-${parentId}-01-more`,
  ]) {
    const answer = await gateway.request("GET", "/health", {
      headers: { traceparent: broken, tracestate: "vendor=1" },
    });
    const [, found] = answer.headers.get("traceparent")!.match(/^00-([0-9a-f]{32})-[0-9a-f]{16}-01$/)!;
    assert.notEqual(found, traceId, broken);
  }
});
