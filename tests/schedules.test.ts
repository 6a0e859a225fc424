// Starts in the future. Schedules: contexts created automatically, in the name of the schedule's writer, once for each
// planned time.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  eventually,
  makeKey,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { tolerance } from "./support/patience.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  const input_schema = { type: "object", properties: { n: { type: "integer" } } };
  await register(gateway, "worker", serviceAt(service.url, [{ input_schema }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const context = { capability: "work", parameters: { n: 1 } };
const put = (id: string, body: unknown, headers: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("PUT", `/v1/schedules/${id}`, { body, headers, key });
const get = async (id: string) => (await gateway.request("GET", `/v1/schedules/${id}`)).json;
const remove = (id: string) => gateway.request("DELETE", `/v1/schedules/${id}`, { headers: { "if-match": "*" } });

/** Creates one with the shortest interval; returns its first run once it is recorded. */
async function firstRun(id: string, key = gateway.adminKey): Promise<any> {
  const answer = await put(id, { interval_seconds: 10, context }, {}, key);
  assert.equal(answer.status, 201, answer.text);
  const shown = await eventually(async () => {
    const seen = await get(id);
    return seen.last_runs.length > 0 && seen;
  });
  await remove(id);
  const [run] = shown.last_runs;
  assert.equal(run.planned_at, answer.json.next_runs[0]);
  return run;
}

test("a_schedule_is_created_replaced_and_deleted_under_its_entity_tag", async () => {
  const made = await put("weekdays", { cron: "0 8 * * 1-5", time_zone: "Europe/Berlin", context, missed: "run_once" });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.get("location"), "/v1/schedules/weekdays");
  assert.deepEqual(await get("weekdays"), made.json);
  assert.equal(made.json.principal, "key:admin");
  assert.equal(made.json.next_runs.length, 5);
  for (const run of made.json.next_runs) {
    const there = new Intl.DateTimeFormat("en-GB", {
      timeZone: "Europe/Berlin",
      weekday: "short",
      hour: "2-digit",
      minute: "2-digit",
    });
    assert.match(there.format(new Date(run)), /^(Mon|Tue|Wed|Thu|Fri),? 08:00$/);
  }
  refused(await put("weekdays", { cron: "0 8 * * *", context }), 428, "precondition_required");
  const off = await put(
    "weekdays",
    { cron: "0 8 * * *", context, enabled: false },
    { "if-match": made.headers.get("etag")! },
  );
  assert.equal(off.status, 200, off.text);
  assert.deepEqual([off.json.time_zone, off.json.missed, off.json.next_runs], ["UTC", "skip", []]);
  const { json } = await gateway.request("GET", "/v1/schedules");
  assert.deepEqual(
    json.data.map(({ id }: any) => id),
    ["weekdays"],
  );
  assert.equal((await remove("weekdays")).status, 204);
  refused(await gateway.request("GET", "/v1/schedules/weekdays"), 404, "not_found");
  refused(await remove("weekdays"), 404, "not_found");
});

test("a_wrong_schedule_reports_every_fault", async () => {
  const wrong = {
    cron: "0 0 30 2 *",
    time_zone: "Mars/Olympus",
    context: { capability: 1, run_at: "2030-01-01T00:00:00Z" },
    missed: "maybe",
    more: 1,
  };
  const faults = ["#/context/capability", "#/cron", "#/missed", "#/more", "#/time_zone"];
  assert.deepEqual(pointers(refused(await put("wrong", wrong), 422, "validation_failed")), faults);
  const misfit = { interval_seconds: 60, context: { capability: "work", parameters: { n: "one" } } };
  assert.deepEqual(pointers(refused(await put("wrong", misfit), 422, "validation_failed")), ["#/context/parameters/n"]);
  const unknown = { interval_seconds: 60, context: { capability: "nothing" } };
  assert.deepEqual(pointers(refused(await put("wrong", unknown), 422, "validation_failed")), ["#/context/capability"]);
});

test("a_schedule_requires_permission_to_create_the_context", async () => {
  const { secret } = await makeKey(gateway, "bare", ["schedules:write"]);
  refused(await put("mine", { interval_seconds: 60, context }, {}, secret), 403, "permission_denied");
});

test("a_run_creates_one_context_with_the_source_scheduled", async () => {
  const run = await firstRun("ticks");
  assert.equal(run.outcome, "created");
  const made = await ended(gateway, run.context_id);
  assert.deepEqual([made.status, made.source, made.owner], ["completed", "scheduled", "key:admin"]);
  assert.equal(made.idempotency_key, `schedules/ticks/${run.planned_at}`);
  assert.deepEqual(made.result, { n: 1 });
});

test("the_writers_permissions_are_checked_at_each_run", async () => {
  const { id, secret } = await makeKey(gateway, "bare", ["schedules:write", "contexts:create:*"]);
  const made = put("revoked", { interval_seconds: 10, context }, {}, secret);
  assert.equal((await made).status, 201);
  await gateway.request("DELETE", `/v1/keys/${id}`);
  const { last_runs } = await eventually(async () => {
    const seen = await get("revoked");
    return seen.last_runs.length > 0 && seen;
  });
  await remove("revoked");
  assert.deepEqual(
    [last_runs[0].outcome, last_runs[0].code, last_runs[0].context_id],
    ["refused", "unauthenticated", null],
  );
});

test("a_planned_time_outlives_the_scheduler", async () => {
  const { json } = await put("outlives", { interval_seconds: 10, context });
  await gateway.evict("Scheduler", "default");
  const { last_runs } = await eventually(async () => {
    const seen = await get("outlives");
    return seen.last_runs.length > 0 && seen;
  });
  await remove("outlives");
  assert.deepEqual([last_runs[0].planned_at, last_runs[0].outcome], [json.next_runs[0], "created"]);
});

test("every_start_in_the_future_is_honored_however_close_together_they_are", async () => {
  const contexts = await Promise.all(
    Array.from({ length: 12 }, (_, at) =>
      accepted(gateway, { ...context, run_at: new Date(Date.now() + 600 + at * 200).toISOString() }),
    ),
  );
  for (const { history, run_at } of await Promise.all(contexts.map(({ id }) => ended(gateway, id)))) {
    const began = history.find((step: any) => step.status === "executing").at;
    const late = Date.parse(began) - Date.parse(run_at);
    assert.ok(late >= 0 && late < tolerance(), `began ${late} ms after its time`);
  }
});

test("a_scheduled_context_states_when_to_poll_again", async () => {
  const seconds = (answer: { headers: Headers }) => Number(answer.headers.get("retry-after"));
  const made = await create(gateway, { ...context, run_at: "2100-01-01T00:00:00Z" });
  assert.deepEqual([made.status, seconds(made)], [202, 3600]);
  assert.equal(seconds(await gateway.request("GET", `/v1/contexts/${made.json.id}`)), 3600);
  assert.ok(made.json.expires_at > made.json.run_at);
  const soon = await create(gateway, { ...context, run_at: new Date(Date.now() + 40_000).toISOString() });
  assert.ok(seconds(soon) > 30 && seconds(soon) <= 40, `${seconds(soon)} s`);
  const late = await create(gateway, { ...context, run_at: "9999-12-31T23:59:59Z" });
  assert.deepEqual(pointers(refused(late, 422, "validation_failed")), ["#/run_at"]);
  for (const { json } of [made, soon]) await gateway.request("POST", `/v1/contexts/${json.id}/cancel`);
});
