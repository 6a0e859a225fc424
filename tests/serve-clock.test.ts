// `narthex serve` and a clock that is set back or leaps forward.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { accepted, create, ended, eventually, many, obedient, register, serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { gone, killed, newFolder, notHere, serve } from "./support/serve.ts";
import { hang, type Service, startService } from "./support/service.ts";

const HOUR = 3600;
const folder = newFolder();
const shifted = join(folder, "shifted.so");
const services: Service[] = [];

/** An environment whose clock is late or early by the seconds that `shift` last said. */
function clockOf(name: string): { env: Record<string, string>; shift(seconds: number): void } {
  const path = join(folder, name);
  return { env: { LD_PRELOAD: shifted, SHIFT: path }, shift: (seconds) => writeFileSync(path, String(seconds)) };
}

before(() => {
  const source = join(root, "tests/support/clock/shifted.c");
  if (!notHere) execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", shifted, source]);
});
after(() => Promise.all(services.map((service) => service.stop())));

describe("a clock", { concurrency: 2, skip: notHere }, () => {
  test("that_was_set_back_is_reported_and_nothing_is_lost_or_doubled_until_it_leaps_forward", async () => {
    const { env, shift } = clockOf("back");
    shift(HOUR);
    const service = await startService(obedient);
    services.push(service);
    const first = await serve({ env });
    const other = await startService(obedient);
    services.push(other);
    await register(first, "worker", serviceAt(service.url, [{ idempotent: true, timeout_seconds: HOUR }]));
    await register(first, "other", serviceAt(other.url, [{ name: "other" }]));
    const done = (await create(first, { parameters: { n: 1 } })).json;
    service.handler = hang;
    const held = await many(3, () => accepted(first));
    await service.call(3);
    const workerd = await first.workerd();
    await killed(first.pid);
    await gone(workerd);
    service.handler = obedient;

    shift(0);
    const second = await serve({ env: { ...env, TIME_SCALE: "0.5" }, data: first.data, port: first.port });
    const warning = await eventually(() => second.log().find(({ message }) => message === "clock set back"));
    const seconds = Number(warning.detail.match(/^by (\d+) s/)?.[1]);
    assert.ok(seconds > HOUR - 300 && seconds <= HOUR, warning.detail);
    assert.deepEqual((await second.request("GET", `/v1/contexts/${done.id}`)).json, done);
    const now = await create(second, { capability: "other" });
    assert.equal(now.json.status, "completed", now.text);
    assert.equal(service.calls.length, 4);

    shift(HOUR);
    for (const { id } of held) {
      const context = await ended(second, id);
      assert.equal(context.status, "completed", JSON.stringify(context.error));
    }
    assert.equal(service.calls.length, 7);
    await second.stop();
  });

  test("that_leaps_forward_runs_what_is_due", async () => {
    const { env, shift } = clockOf("forward");
    shift(0);
    const service = await startService(obedient);
    services.push(service);
    const gateway = await serve({ env });
    await register(gateway, "worker", serviceAt(service.url, [{ timeout_seconds: HOUR }]));
    const run_at = new Date(Date.now() + (HOUR / 4) * 1000).toISOString();
    const { id } = await accepted(gateway, { run_at });
    shift(HOUR / 2);
    assert.equal((await ended(gateway, id)).status, "completed");
    assert.equal(service.calls.length, 1);
    await gateway.stop();
  });

  test("behind_the_last_sweep_is_reported_at_the_start", async () => {
    const first = await serve();
    await first.stop();
    const sweeper = join(first.data, "state/narthex-Sweeper");
    const soon = Date.now() / 1000 + HOUR;
    for (const name of readdirSync(sweeper)) utimesSync(join(sweeper, name), soon, soon);
    const second = await serve({ data: first.data, port: first.port });
    assert.match(second.said(), /the clock was set back/);
    await second.stop();
    assert.doesNotMatch(first.said(), /clock/);
  });
});
