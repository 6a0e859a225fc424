// Multi-round trips of the modern revision: a request for input is a result, and the answer is the same call again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ended, inThreeTries, makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askModern, errorOf, type McpOptions, openModern, resultOf } from "./support/mcp.ts";
import { gate, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

/** Requests input twice: a form, then a yes or no. */
const asks: Service["handler"] = (one, response) => {
  const { input, attempt } = one.json;
  if (attempt === 1) {
    const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
    return json({ input_required: { message: "Who are you?", schema } })(one, response);
  }
  if (attempt === 2) {
    names.set(one.json.context_id, input.name);
    return json({ input_required: { message: "Sure?", schema: { type: "boolean" } } })(one, response);
  }
  return json({ result: { hello: names.get(one.json.context_id), sure: input } })(one, response);
};
const names = new Map<string, string>();

before(async () => {
  gateway = await startGateway();
  service = await startService(asks);
  await register(gateway, "words", serviceAt(service.url, [{ name: "greet" }, { name: "other" }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const capabilities = "io.modelcontextprotocol/clientCapabilities";
const able = { [capabilities]: { elicitation: {} } };
const call = (more: object = {}, options: McpOptions = {}) =>
  askModern(gateway, "tools/call", { name: "words__greet", arguments: { a: 1 }, ...more }, { meta: able, ...options });
const accept = (content: object) => ({ action: "accept", content });

test("a_question_is_a_result_and_the_same_call_again_answers_it", async () => {
  const before = service.calls.length;
  const first = resultOf(await call());
  assert.equal(first.resultType, "input_required");
  assert.deepEqual(Object.keys(first.inputRequests), ["input-1"]);
  const { method, params } = first.inputRequests["input-1"];
  assert.deepEqual([method, params.mode, params.message], ["elicitation/create", "form", "Who are you?"]);
  const second = resultOf(
    await call({ requestState: first.requestState, inputResponses: { "input-1": accept({ name: "Ada" }) } }),
  );
  assert.equal(second.resultType, "input_required");
  assert.notEqual(second.requestState, first.requestState);
  assert.deepEqual(second.inputRequests["input-2"].params.requestedSchema.properties, { input: { type: "boolean" } });
  const last = resultOf(
    await call({ requestState: second.requestState, inputResponses: { "input-2": accept({ input: true }) } }),
  );
  assert.equal(last.resultType, "complete");
  assert.deepEqual(last.structuredContent, { hello: "Ada", sure: true });
  // All calls were one context.
  const ids = [first, second, last].map((result) => result._meta["narthex/context"]);
  assert.equal(new Set(ids).size, 1);
  assert.equal(service.calls.length, before + 3);
});

test("an_incomplete_answer_is_asked_for_again_and_an_invalid_one_is_refused", async () => {
  const { requestState, _meta } = resultOf(await call());
  for (const inputResponses of [undefined, {}, { other: accept({ name: "Ada" }) }]) {
    const again = resultOf(await call({ requestState, ...(inputResponses && { inputResponses }) }));
    assert.equal(again.resultType, "input_required");
    assert.ok("input-1" in again.inputRequests);
  }
  for (const inputResponses of [null, [], { "input-1": 12345 }, { "input-1": accept({ name: 7 }) }]) {
    errorOf(await call({ requestState, inputResponses }), 200, -32602);
  }
  const extra = { "input-1": accept({ name: "Ada" }), unknown: accept({}) };
  assert.ok("input-2" in resultOf(await call({ requestState, inputResponses: extra })).inputRequests);
  await gateway.request("POST", `/v1/contexts/${_meta["narthex/context"]}/cancel`);
});

test("a_state_is_valid_once_for_its_call_and_caller", async () => {
  const { requestState, _meta } = resultOf(await call());
  const inputResponses = { "input-1": accept({ name: "Ada" }) };
  const changed = `${requestState.slice(0, -2)}${requestState.endsWith("AA") ? "BB" : "AA"}`;
  for (const wrong of [changed, `${requestState}-TAMPERED`, "", "a.b.c", 7, null]) {
    errorOf(await call({ requestState: wrong, inputResponses }), 200, -32602);
  }
  errorOf(await call({ requestState, inputResponses, arguments: { a: 2 } }), 200, -32602);
  errorOf(await call({ requestState, inputResponses, name: "words__other" }), 200, -32602);
  errorOf(await call({ requestState, inputResponses, name: "greet" }, { path: "/mcp/words" }), 200, -32602);
  const key = (await makeKey(gateway, "caller")).secret;
  errorOf(await call({ requestState, inputResponses }, { key }), 200, -32602);
  assert.ok("input-2" in resultOf(await call({ requestState, inputResponses })).inputRequests);
  errorOf(await call({ requestState, inputResponses }), 200, -32602);
  await gateway.request("POST", `/v1/contexts/${_meta["narthex/context"]}/cancel`);
});

test("declining_ends_the_call", async () => {
  const { requestState, _meta } = resultOf(await call());
  const result = resultOf(await call({ requestState, inputResponses: { "input-1": { action: "decline" } } }));
  assert.deepEqual([result.resultType, result.isError], ["complete", true]);
  assert.equal((await ended(gateway, _meta["narthex/context"])).status, "cancelled");
});

test("a_client_without_elicitation_is_informed_of_the_required_capability_and_the_call_ends", async () => {
  const before = service.calls.length;
  const error = errorOf(
    await call({}, { meta: { [capabilities]: { elicitation: { url: {} }, sampling: {} } } }),
    400,
    -32021,
  );
  assert.deepEqual(error.data.requiredCapabilities, { elicitation: {} });
  const { context_id } = (await service.call(before)).json;
  assert.equal((await ended(gateway, context_id)).status, "cancelled");
});

test("an_answer_in_the_first_call_answers_the_first_question", async () => {
  const inputResponses = { "input-1": accept({ name: "Ada" }), other: accept({}) };
  // A question that comes after 3 s is asked again; a busy machine may exceed them.
  await inThreeTries(async () => {
    const { inputRequests, _meta } = resultOf(await call({ inputResponses }));
    await gateway.request("POST", `/v1/contexts/${_meta["narthex/context"]}/cancel`);
    return "input-2" in inputRequests;
  });
});

test("a_late_question_ends_the_stream", async () => {
  const question = gate(asks);
  service.handler = question.handler;
  try {
    const params = { name: "words__greet", arguments: { a: 1 } };
    const answer = await openModern(gateway, "tools/call", params, { meta: able });
    assert.equal(answer.headers.get("content-type"), "text/event-stream");
    question.open();
    const result = resultOf(await answer.whole());
    assert.ok("input-1" in result.inputRequests);
    await gateway.request("POST", `/v1/contexts/${result._meta["narthex/context"]}/cancel`);
  } finally {
    service.handler = asks;
  }
});

test("a_question_precedes_a_task", async () => {
  const extensions = { "io.modelcontextprotocol/tasks": {} };
  const meta = { [capabilities]: { elicitation: {}, extensions } };
  // Within 3 s, which a busy machine may exceed.
  const first = await inThreeTries(async () => {
    const one = resultOf(await call({}, { meta }));
    return one.resultType === "input_required" && one;
  });
  assert.ok(!("taskId" in first));
  const busy = gate((one, response) => json({ result: { hello: one.json.input.name } })(one, response));
  service.handler = busy.handler;
  try {
    const inputResponses = { "input-1": accept({ name: "Ada" }) };
    const task = resultOf(await call({ requestState: first.requestState, inputResponses }, { meta }));
    assert.equal(task.resultType, "task");
    busy.open();
    assert.ok(!("requestState" in task) && !("inputRequests" in task));
    await ended(gateway, task.taskId);
    const done = resultOf(await askModern(gateway, "tasks/get", { taskId: task.taskId }, { meta }));
    assert.deepEqual(done.result.structuredContent, { hello: "Ada" });
  } finally {
    service.handler = asks;
  }
});
