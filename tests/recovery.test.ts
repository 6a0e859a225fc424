// The gateway is stopped in the middle of its work and restarted on the same folder: no admitted context is lost, work
// that is not idempotent never runs twice, and the events are complete.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, finalStates, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { gate, hang, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

/** A lease lasts 2 s instead of 10, which a busy machine may not renew in time: for leases that are to be lost only. */
const BRIEF = 0.2;

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

type Place = { service: Service; folder: string; start(timeScale?: number): Promise<Gateway> };

/** A service, and a gateway that can be stopped and restarted on its folder. */
async function place(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "narthex-recovery-"));
  const service = await startService(obedient);
  undo.push(
    () => rmSync(folder, { recursive: true, force: true }),
    () => service.stop(),
  );
  const start = async (timeScale = 1) => {
    const vars = { ADMIN_KEY: "a key that outlives the restart" };
    const gateway = await startGateway({ persist: folder, vars, timeScale });
    let stopped: Promise<void> | undefined;
    const stop = () => (stopped ??= gateway.stop());
    undo.push(stop);
    return { ...gateway, stop };
  };
  return { service, folder, start };
}

async function withService(gateway: Gateway, { service }: Place): Promise<void> {
  await register(
    gateway,
    "worker",
    serviceAt(service.url, [
      { name: "safe", idempotent: true, timeout_seconds: 600 },
      { name: "once", timeout_seconds: 600 },
    ]),
  );
}

const inFuture = (ms: number) => new Date(Date.now() + ms).toISOString();
const callsOf = (service: Service, id: string) => service.calls.filter((call) => call.json.context_id === id).length;

/** Asserts, once these contexts have ended, that the events are one sequence with each context's whole history once. */
async function assertWholeHistory(gateway: Gateway, ids: string[]): Promise<void> {
  const events = await openEvents(gateway, { query: { after: "0" } });
  const left = new Set(ids);
  const isFinal = ({ type }: any) => finalStates.includes(type.replace("context.", ""));
  while (left.size > 0) left.delete((await events.next(isFinal)).subject);
  events.close();
  const sequences = events.messages.map(({ sequence }) => Number(sequence));
  assert.deepEqual(
    sequences,
    sequences.map((_, at) => at + 1),
  );
  for (const id of ids) {
    const { json: context } = await gateway.request("GET", `/v1/contexts/${id}`);
    const own = events.messages.filter(({ subject }) => subject === id);
    const steps = own.filter(({ type }) => type !== "context.attempt").map(({ data }) => data.status);
    assert.deepEqual(
      steps,
      context.history.map(({ status }: any) => status),
      id,
    );
    const attempts = own.filter(({ type }) => type === "context.attempt").map(({ data }) => data.outcome);
    assert.deepEqual(
      attempts,
      context.attempts.map(({ outcome }: any) => outcome),
      id,
    );
    assert.equal(steps.filter((status) => finalStates.includes(status)).length, 1);
  }
}

describe("after a restart", { concurrency: 3 }, () => {
  for (const [held, prefer] of [
    ["in_the_request", "wait=0"],
    ["from_the_queue", "respond-async"],
  ] as const) {
    test(`a_context_executing_${held}_runs_again_if_it_is_idempotent`, async () => {
      const here = await place();
      const first = await here.start(BRIEF);
      await withService(first, here);
      here.service.handler = hang;
      const { id } = await accepted(first, { capability: "safe" }, { headers: { prefer } });
      await here.service.call(0);
      await first.stop();
      here.service.handler = obedient;
      const second = await here.start();
      const context = await ended(second, id);
      assert.equal(context.status, "completed", JSON.stringify(context.error));
      assert.deepEqual(
        context.attempts.map(({ outcome }: any) => outcome),
        ["lost", "succeeded"],
      );
      assert.equal(callsOf(here.service, id), 2);
      await assertWholeHistory(second, [id]);
    });

    test(`a_context_executing_${held}_ends_as_unknown_if_it_is_not_idempotent`, async () => {
      const here = await place();
      const first = await here.start(BRIEF);
      await withService(first, here);
      here.service.handler = hang;
      const { id } = await accepted(first, { capability: "once" }, { headers: { prefer } });
      await here.service.call(0);
      await first.stop();
      here.service.handler = obedient;
      const second = await here.start();
      const context = await ended(second, id);
      assert.deepEqual([context.status, context.error.code], ["failed", "outcome_unknown"]);
      assert.deepEqual(
        context.attempts.map(({ outcome }: any) => outcome),
        ["lost"],
      );
      assert.equal(callsOf(here.service, id), 1);
      await assertWholeHistory(second, [id]);
    });
  }

  test("contexts_accepted_just_before_the_stop_end", async () => {
    const here = await place();
    const first = await here.start();
    await withService(first, here);
    const contexts = [];
    for (let at = 0; at < 30; at++) {
      // In the request, and from the queue.
      const headers = { prefer: at % 2 ? "wait=0" : "respond-async" };
      contexts.push(await accepted(first, { capability: "safe", parameters: { ms: 100 } }, { headers }));
    }
    await first.stop();
    const second = await here.start();
    for (const { id } of contexts) {
      const context = await ended(second, id);
      assert.equal(context.status, "completed", JSON.stringify(context));
    }
    await assertWholeHistory(
      second,
      contexts.map(({ id }) => id),
    );
  });

  test("starts_that_came_due_while_it_was_down_and_future_ones_are_honored", async () => {
    const here = await place();
    const first = await here.start();
    await withService(first, here);
    const due = await accepted(first, { capability: "once", run_at: inFuture(3000) });
    const later = await accepted(first, { capability: "once", run_at: inFuture(8000) });
    await first.stop();
    await pause(Math.max(0, Date.parse(due.run_at) - Date.now()));
    const second = await here.start();
    for (const { id, run_at } of [due, later]) {
      const context = await ended(second, id);
      assert.equal(context.status, "completed");
      const began = context.history.find(({ status }: any) => status === "executing").at;
      assert.ok(Date.parse(began) >= Date.parse(run_at));
      assert.equal(callsOf(here.service, id), 1);
    }
    await assertWholeHistory(second, [due.id, later.id]);
  });

  test("a_deadline_that_passed_while_it_was_down_ends_the_context", async () => {
    const here = await place();
    const first = await here.start();
    await withService(first, here);
    here.service.handler = hang;
    const contexts = [
      await accepted(first, { capability: "once", timeout_seconds: 6 }),
      await accepted(first, { capability: "safe", timeout_seconds: 6 }),
    ];
    await here.service.call(1);
    await first.stop();
    await pause(Date.parse(contexts[1].expires_at) - Date.now());
    const second = await here.start();
    for (const { id } of contexts) {
      const context = await ended(second, id);
      assert.deepEqual([context.status, context.error.code], ["timed_out", "deadline_exceeded"]);
    }
    await assertWholeHistory(
      second,
      contexts.map(({ id }) => id),
    );
  });

  test("ended_contexts_are_unchanged_and_lists_and_cursors_continue", async () => {
    const here = await place();
    const first = await here.start();
    await withService(first, here);
    const contexts = [];
    for (let at = 0; at < 6; at++)
      contexts.push((await create(first, { capability: "safe", parameters: { at } })).json);
    const { json: page } = await first.request("GET", "/v1/contexts?limit=4");
    await first.stop();
    const second = await here.start();
    for (const context of contexts)
      assert.deepEqual((await second.request("GET", `/v1/contexts/${context.id}`)).json, context);
    const { json: rest } = await second.request("GET", `/v1/contexts?limit=4&cursor=${page.next_cursor}`);
    assert.deepEqual(
      [...page.data, ...rest.data].map(({ id }: any) => id),
      contexts.map(({ id }) => id).reverse(),
    );
    await assertWholeHistory(
      second,
      contexts.map(({ id }) => id),
    );
  });

  test("many_restarts_in_a_row_lose_nothing", async () => {
    const here = await place();
    const ids: string[] = [];
    for (let round = 0; round < 4; round++) {
      const gateway = await here.start();
      if (round === 0) await withService(gateway, here);
      const made = await Promise.all(
        Array.from({ length: 6 }, () => accepted(gateway, { capability: "safe", parameters: { ms: 150 } })),
      );
      ids.push(...made.map(({ id }) => id));
      await gateway.stop();
    }
    const last = await here.start();
    for (const id of ids) assert.equal((await ended(last, id)).status, "completed");
    await assertWholeHistory(last, ids);
  });
});

describe("without a restart", { concurrency: 3 }, () => {
  test("a_service_slower_than_its_lease_keeps_it_and_completes", async () => {
    const here = await place();
    const gateway = await here.start();
    await withService(gateway, here);
    const contexts = [
      await accepted(gateway, { capability: "once", parameters: { ms: 15_000 } }),
      await accepted(gateway, { capability: "safe", parameters: { ms: 12_000 } }, { headers: { prefer: "wait=0" } }),
    ];
    for (const { id } of contexts) {
      const context = await ended(gateway, id);
      assert.equal(context.status, "completed", JSON.stringify(context.error));
      assert.equal(context.attempts.length, 1);
      assert.equal(callsOf(here.service, id), 1);
    }
    await assertWholeHistory(
      gateway,
      contexts.map(({ id }) => id),
    );
  });

  test("a_slow_context_of_the_queue_does_not_delay_the_others", async (t) => {
    const here = await place();
    const gateway = await here.start();
    await withService(gateway, here);
    const busy = gate();
    t.after(busy.open);
    here.service.handler = busy.handler;
    const slow = await Promise.all(Array.from({ length: 6 }, () => accepted(gateway, { capability: "safe" })));
    await here.service.call(slow.length - 1);
    here.service.handler = obedient;
    const quick = await Promise.all(Array.from({ length: 6 }, () => accepted(gateway, { capability: "safe" })));
    for (const { id } of quick) assert.equal((await ended(gateway, id)).status, "completed");
    busy.open();
    for (const { id } of slow) assert.equal((await ended(gateway, id)).status, "completed");
  });

  test("the_cron_runs_contexts_whose_alarm_was_lost", async () => {
    const here = await place();
    const first = await here.start();
    await withService(first, here);
    const contexts = await Promise.all(
      Array.from({ length: 6 }, () => accepted(first, { capability: "once", run_at: inFuture(4000) })),
    );
    await first.stop();
    let alarms = 0;
    for (const entry of readdirSync(here.folder, { recursive: true, encoding: "utf8" })) {
      if (!entry.endsWith(".sqlite")) continue;
      const database = new DatabaseSync(join(here.folder, entry));
      const tables = database.prepare("SELECT name FROM sqlite_master WHERE name = '_cf_ALARM'").all();
      if (tables.length > 0) alarms += Number(database.prepare("DELETE FROM _cf_ALARM").run().changes);
      database.close();
    }
    assert.ok(alarms > 0, "there were alarms to kill");
    await pause(Math.max(0, Date.parse(contexts.at(-1).run_at) - Date.now()));
    const second = await here.start();
    await second.runCron();
    for (const { id } of contexts) assert.equal((await ended(second, id)).status, "completed");
    await second.runCron();
    for (const { id } of contexts) assert.equal(callsOf(here.service, id), 1);
    await assertWholeHistory(
      second,
      contexts.map(({ id }) => id),
    );
  });
});
