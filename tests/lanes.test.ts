// Services with a concurrency limit: never too many calls, none lost, urgent ones first, all of them eventually.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, eventually, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, type Service, echo, hang, startService } from "./support/service.ts";

/** A permit lasts 2 s instead of 10, which a busy machine may not renew in time: for the end of permits only. */
const TIME_SCALE = 0.2;

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

type Counted = Service & { most: number; inFlight: number };

/** A service that takes `ms` for a call, or until its test releases it, and records its maximum concurrency. */
async function serve(ms: number | Promise<unknown>): Promise<Counted> {
  const handler: Handler = async (call, response) => {
    service.inFlight += 1;
    service.most = Math.max(service.most, service.inFlight);
    response.once("close", () => (service.inFlight -= 1));
    await (typeof ms === "number" ? pause(ms) : ms);
    if (!response.destroyed) await echo(call, response);
  };
  const service = Object.assign(await startService(handler), { most: 0, inFlight: 0 });
  services.push(service);
  return service;
}

const limited = (service: Service, name: string, limits: object, more: object = {}) =>
  register(gateway, name, serviceAt(service.url, [{ name, timeout_seconds: 120, ...more }], { limits }));

/** The `n` of each call, in order of arrival. */
const order = (service: Service): number[] => service.calls.map(({ json }) => json.parameters.n);

const waits = { headers: { prefer: "wait=60" } };

/** Waits until this many contexts of a key are queued for a capability: each has its place before it is admitted. */
const inLine = (capability: string, count: number, key = gateway.adminKey) =>
  eventually(async () => {
    const { json } = await gateway.request("GET", `/v1/contexts?capability=${capability}&status=queued`, { key });
    return json.data.length === count;
  });

/** Holds a service of one permit busy until `free` is called. */
async function busy(
  name: string,
  limits: object,
): Promise<{ service: Counted; free: () => void; held: Promise<unknown> }> {
  let free = () => {};
  const service = await serve(new Promise<void>((resolve) => (free = resolve)));
  await limited(service, name, { max_concurrency: 1, ...limits });
  const held = create(gateway, { capability: name, parameters: { n: 0 } }, waits);
  await service.call(0);
  return { service, free, held };
}

test("of_two_hundred_contexts_at_most_four_run_at_once_and_none_is_lost", async () => {
  const service = await serve(20);
  await limited(service, "four", { max_concurrency: 4 });
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) => create(gateway, { capability: "four", parameters: { n } }, waits)),
  );
  for (const { status, json, text } of answers) assert.deepEqual([status, json.status], [200, "completed"], text);
  assert.deepEqual([service.most, service.calls.length], [4, 200]);
  assert.deepEqual(
    order(service).sort((a, b) => a - b),
    Array.from({ length: 200 }, (_, n) => n),
  );
});

test("critical_overtakes_and_low_still_ends", async () => {
  const { service, free, held } = await busy("urgent", {});
  const low = Array.from({ length: 5 }, (_, n) =>
    create(gateway, { capability: "urgent", priority: "low", parameters: { n: 10 + n } }, waits),
  );
  await inLine("urgent", 5);
  const critical = create(gateway, { capability: "urgent", priority: "critical", parameters: { n: 99 } }, waits);
  await inLine("urgent", 6);
  free();
  const answers = (await Promise.all([held, critical, ...low])) as { json: any }[];
  assert.deepEqual(
    answers.map(({ json }) => json.status),
    Array(7).fill("completed"),
  );
  assert.deepEqual(order(service).slice(0, 2), [0, 99]);
  assert.equal(service.most, 1);
});

test("a_flooding_principal_does_not_delay_another", async () => {
  const { service, free, held } = await busy("shared", {});
  const flood = Array.from({ length: 10 }, (_, n) =>
    create(gateway, { capability: "shared", parameters: { n: 10 + n } }, waits),
  );
  await inLine("shared", 10);
  const { secret } = await makeKey(gateway, "caller");
  const other = create(gateway, { capability: "shared", parameters: { n: 50 } }, { ...waits, key: secret });
  await inLine("shared", 1, secret);
  free();
  await Promise.all([held, other, ...flood]);
  assert.ok(order(service).indexOf(50) <= 2, order(service).join());
});

test("a_full_queue_is_reported_and_sheds_the_least_important_first", async () => {
  const { free, held } = await busy("small", { max_queue: 2 });
  const ask = (priority: string) => create(gateway, { capability: "small", priority }, waits);
  const fits: Promise<unknown>[] = [ask("low")];
  await inLine("small", 1);
  const shed = await ask("low");
  const { detail } = refused(shed, 503, "queue_full");
  assert.match(detail, /small/);
  const seconds = Number(shed.headers.get("retry-after"));
  assert.ok(seconds >= 1 && seconds <= 60, String(seconds));
  fits.push(ask("normal"));
  await inLine("small", 2);
  refused(await ask("normal"), 503, "queue_full");
  refused(await ask("high"), 503, "queue_full");
  fits.push(ask("critical"));
  await inLine("small", 3);
  refused(await ask("critical"), 503, "queue_full");
  free();
  const answers = (await Promise.all([held, ...fits])) as { json: any }[];
  assert.deepEqual(
    answers.map(({ json }) => json.status),
    Array(4).fill("completed"),
  );
});

test("a_context_cancelled_in_the_queue_leaves_it_without_a_call", async () => {
  const { service, free, held } = await busy("left", { max_queue: 1 });
  const { id } = await accepted(gateway, { capability: "left", parameters: { n: 1 } });
  refused(await create(gateway, { capability: "left" }), 503, "queue_full");
  const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.equal(cancelled.json.status, "cancelled", cancelled.text);
  // Its worker learns of it with its next renewal.
  const next = eventually(async () => {
    const answer = await create(
      gateway,
      { capability: "left", parameters: { n: 2 } },
      { headers: { prefer: "wait=0" } },
    );
    return answer.status === 202 && answer.json.id;
  });
  const second = await next;
  free();
  await held;
  assert.equal((await ended(gateway, second)).status, "completed");
  assert.deepEqual(order(service), [0, 2]);
});

test("asynchronous_contexts_wait_in_the_same_queue", async () => {
  const service = await serve(20);
  await limited(service, "background", { max_concurrency: 2 });
  const ids = await Promise.all(
    Array.from(
      { length: 30 },
      async (_, n) => (await accepted(gateway, { capability: "background", parameters: { n } })).id,
    ),
  );
  for (const id of ids) assert.equal((await ended(gateway, id)).status, "completed");
  assert.deepEqual([service.most <= 2, service.calls.length], [true, 30], String(service.most));
});

test("a_restarted_lane_admits_no_fifth_call", async () => {
  const service = await serve(2_000);
  await limited(service, "restarting", { max_concurrency: 4 });
  const ask = (n: number) => create(gateway, { capability: "restarting", parameters: { n } }, waits);
  const running = Array.from({ length: 4 }, (_, n) => ask(n));
  await service.call(3);
  await gateway.evict("ServiceLane", "default/restarting");
  running.push(...Array.from({ length: 8 }, (_, n) => ask(10 + n)));
  const answers = await Promise.all(running);
  assert.deepEqual(
    answers.map(({ json }) => json.status),
    Array(12).fill("completed"),
  );
  assert.equal(service.most, 4);
});

test("the_permit_of_a_dead_worker_is_returned", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-lanes-"));
  const service = await serve(0);
  const document = serviceAt(service.url, [{ name: "survived", timeout_seconds: 120 }], {
    limits: { max_concurrency: 1 },
  });
  const before = await startGateway({ persist, timeScale: TIME_SCALE });
  let after: Gateway | undefined;
  try {
    await register(before, "survived", document);
    const { handler } = service;
    service.handler = hang;
    void create(before, { capability: "survived" }).catch(() => {});
    await service.call(0);
    await before.stop();
    service.handler = handler;
    after = await startGateway({ persist, timeScale: TIME_SCALE });
    const { json } = await create(after, { capability: "survived" }, waits);
    assert.equal(json.status, "completed", JSON.stringify(json.error));
  } finally {
    await after?.stop();
    rmSync(persist, { recursive: true, force: true });
  }
});
