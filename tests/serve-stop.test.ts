// `narthex serve` at a signal: it takes no more requests, lets running calls end, and leaves the rest to leases.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { accepted, create, ended, eventually, obedient, register, serviceAt } from "./support/arrange.ts";
import {
  narthex,
  newFolder,
  notHere,
  run,
  type Served,
  serve,
  type ServeOptions,
  startServing,
} from "./support/serve.ts";
import { hang, hold, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";
import { openStream } from "./support/stream.ts";

const services: Service[] = [];
after(() => Promise.all(services.map((service) => service.stop())));

/** A gateway with a service: `safe` is idempotent, `once` is not. */
async function place(options: ServeOptions = {}): Promise<{ gateway: Served; service: Service }> {
  const [gateway, service] = await Promise.all([serve(options), startService(obedient)]);
  services.push(service);
  const capabilities = [{ name: "safe", idempotent: true }, { name: "once" }];
  await register(gateway, "worker", serviceAt(service.url, capabilities));
  return { gateway, service };
}

const again = ({ data, port }: Served, options: ServeOptions = {}) => serve({ data, port, ...options });

/** Waits until new requests are refused. */
const refuses = (gateway: Served) =>
  eventually(async () => {
    const { status, headers, json } = await gateway.request("GET", "/health", { contract: false });
    return status === 503 && headers.get("retry-after") === "5" && json.code === "stopping";
  });

describe("after a signal", { concurrency: 3, skip: notHere }, () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`running_calls_end_with_their_results_and_new_ones_are_refused_after_${signal}`, async (t) => {
      const { gateway, service } = await place();
      const gate = hold(t, service, obedient);
      const waiting = create(gateway, { capability: "once", parameters: { n: 1 } });
      const { id } = await accepted(gateway, { capability: "once", parameters: { n: 2 } });
      const stream = gateway.open("POST", "/v1/contexts", {
        body: { capability: "once", parameters: { n: 3 } },
        headers: { accept: "text/event-stream" },
      });
      await service.call(2);
      const stopped = gateway.stop(signal);
      await refuses(gateway);
      gate.open();
      assert.deepEqual((await waiting).json.result, { n: 1 });
      assert.match(await (await stream).text(), /"result":\{"n":3\}|"n":3/);
      const { code, err } = await stopped;
      assert.equal(code, 0, err);
      assert.doesNotMatch(err, /left to their leases/);
      const second = await again(gateway);
      const context = await ended(second, id);
      assert.deepEqual([context.status, context.result, context.attempts.length], ["completed", { n: 2 }, 1]);
      assert.equal(service.calls.length, 3);
      await second.stop();
    });
  }

  test("those_who_watch_do_not_delay_it", async () => {
    const { gateway } = await place();
    const [socket, stream] = [await openEvents(gateway), await openStream(gateway)];
    const began = Date.now();
    const { code } = await gateway.stop();
    assert.equal(code, 0);
    assert.ok(Date.now() - began < 15_000, `it took ${Date.now() - began} ms`);
    await Promise.all([socket.closed, stream.ended.catch(() => {})]);
  });

  test("work_that_has_not_begun_is_left_for_the_next_start", async (t) => {
    const { gateway, service } = await place();
    const gate = hold(t, service, obedient);
    const running = await accepted(gateway, { capability: "once" });
    await service.call(0);
    const run_at = new Date(Date.now() + 1500).toISOString();
    const later = await accepted(gateway, { capability: "once", run_at });
    const stopped = gateway.stop();
    await gateway.says(/stopping/);
    await eventually(() => Date.now() > Date.parse(run_at) + 1000);
    gate.open();
    assert.equal((await stopped).code, 0);
    assert.equal(service.calls.length, 1);
    const second = await again(gateway);
    for (const { id } of [running, later]) assert.equal((await ended(second, id)).status, "completed");
    assert.equal(service.calls.length, 2);
    await second.stop();
  });

  test("a_call_longer_than_the_grace_is_left_to_its_lease", async () => {
    const { gateway, service } = await place({ args: ["--grace", "1"], env: { TIME_SCALE: "0.2" } });
    service.handler = hang;
    const once = await accepted(gateway, { capability: "once" });
    const safe = await accepted(gateway, { capability: "safe" });
    await service.call(1);
    const { code, err } = await gateway.stop();
    assert.equal(code, 0);
    assert.match(err, /some calls have not ended; they are left to their leases/);
    service.handler = obedient;
    const second = await again(gateway);
    assert.equal((await ended(second, safe.id)).status, "completed");
    const context = await ended(second, once.id);
    assert.deepEqual([context.status, context.error.code], ["failed", "outcome_unknown"]);
    await second.stop();
  });

  test("a_second_signal_ends_it_at_once", async () => {
    const { gateway, service } = await place({ args: ["--grace", "300"] });
    service.handler = hang;
    await accepted(gateway, { capability: "once" });
    await service.call(0);
    const stopped = gateway.stop();
    await gateway.says(/stopping/);
    const { code, err } = await gateway.stop();
    assert.equal(code, 0);
    assert.match(err, /ends at once/);
    await stopped;
  });

  test("a_signal_to_all_its_processes_lets_running_calls_end_too", async (t) => {
    const { gateway, service } = await place({ args: ["--grace", "20"] });
    const gate = hold(t, service, obedient);
    const waiting = create(gateway, { capability: "once", parameters: { n: 1 } });
    await service.call(0);
    process.kill(await gateway.workerd(), "SIGTERM");
    const stopped = gateway.stop();
    await gateway.says(/stopping/);
    gate.open();
    assert.deepEqual((await waiting).json.result, { n: 1 });
    assert.equal((await stopped).code, 0);
  });

  test("a_signal_of_the_terminal_lets_running_calls_end_too", async (t) => {
    const { gateway, service } = await place({ by: ["setsid"], env: { PATH: process.env.PATH! } });
    const gate = hold(t, service, obedient);
    const waiting = create(gateway, { capability: "once", parameters: { n: 1 } });
    await service.call(0);
    process.kill(-gateway.pid, "SIGINT");
    await gateway.says(/stopping/);
    await refuses(gateway);
    gate.open();
    assert.deepEqual((await waiting).json.result, { n: 1 });
    assert.equal((await gateway.ended).code, 0);
  });

  test("a_signal_during_the_pause_before_a_restart_ends_it", async () => {
    const { gateway } = await place();
    process.kill(await gateway.workerd(), "SIGKILL");
    await gateway.says(/is started again in 1 s/);
    const { code, err } = await gateway.stop();
    assert.equal(code, 0);
    assert.doesNotMatch(err, /serves again/);
  });

  test("a_signal_during_the_start_ends_it_and_the_next_start_is_whole", async () => {
    const data = newFolder();
    for (const signal of ["SIGTERM", "SIGINT", "SIGTERM"] as const) {
      const starting = await startServing({ data });
      if (signal === "SIGINT") await starting.workerd();
      assert.equal((await starting.stop(signal)).code ?? 0, 0);
    }
    const served = await serve({ data });
    assert.equal((await served.request("GET", "/v1/services/demo")).status, 200);
    await served.stop();
    assert.equal((await run(["health", "--data", data], { program: narthex })).code, 1);
  });
});
