// Runs missed while the gateway is stopped: skipped or made up for, as each schedule specifies.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, startService } from "./support/service.ts";

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

const folder = mkdtempSync(join(tmpdir(), "narthex-outage-"));
undo.push(() => rmSync(folder, { recursive: true, force: true }));

async function start(): Promise<Gateway> {
  // Shorter intervals than the contract allows, so that the test need not wait for minutes.
  const vars = {
    ADMIN_KEY: "a key that outlives the restart",
    SCHEDULE_LATE_SECONDS: "1",
    SCHEDULE_LEAST_SECONDS: "1",
  };
  const gateway = await startGateway({ persist: folder, contract: false, vars });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= gateway.stop());
  undo.push(stop);
  return { ...gateway, stop };
}

type Run = { planned_at: string; outcome: string; context_id: string | null };
const kinds = ["skip", "run_once", "run_all"] as const;

/** The runs of each schedule, oldest first. */
async function runs(gateway: Gateway): Promise<Record<string, Run[]>> {
  const all = kinds.map(async (kind) => {
    const { json } = await gateway.request("GET", `/v1/schedules/${kind.replace("_", "-")}`);
    return [kind, json.last_runs.toReversed()];
  });
  return Object.fromEntries(await Promise.all(all));
}

test("runs_missed_while_the_gateway_was_stopped_are_made_up_for_as_configured", async () => {
  const service = await startService(echo);
  undo.push(() => service.stop());
  const first = await start();
  await register(first, "worker", serviceAt(service.url));
  for (const missed of kinds) {
    const body = { interval_seconds: 2, missed, context: { capability: "work" } };
    const made = await first.request("PUT", `/v1/schedules/${missed.replace("_", "-")}`, { body });
    assert.equal(made.status, 201, made.text);
  }
  await eventually(async () => Object.values(await runs(first)).every((seen) => seen.length > 0));
  await first.stop();
  const stoppedAt = Date.now();
  await pause(9_000);
  const startedAt = Date.now();

  const second = await start();
  // The first message to it, like its alarm, makes it check for due runs.
  const passed = await eventually(async () => {
    const seen = await runs(second);
    return Object.values(seen).every((some) => some.some(({ planned_at }) => Date.parse(planned_at) > startedAt))
      ? seen
      : null;
  });
  await Promise.all(
    kinds.map((kind) =>
      second.request("DELETE", `/v1/schedules/${kind.replace("_", "-")}`, { headers: { "if-match": "*" } }),
    ),
  );

  const away = (kind: string) =>
    passed[kind]!.filter(
      ({ planned_at }) => Date.parse(planned_at) > stoppedAt && Date.parse(planned_at) < startedAt - 1_000,
    );
  const created = (kind: string) => away(kind).filter(({ outcome }) => outcome === "created");
  assert.ok(away("skip").length >= 3, JSON.stringify(passed.skip));
  assert.deepEqual(new Set(away("skip").map(({ outcome }) => outcome)), new Set(["missed"]));
  assert.ok(created("run_once").length <= 1, JSON.stringify(passed.run_once));
  assert.ok(away("run_all").length >= 3, JSON.stringify(passed.run_all));
  assert.equal(created("run_all").length, away("run_all").length, JSON.stringify(passed.run_all));
  // Each planned time created at most one context.
  for (const kind of kinds) {
    const planned = passed[kind]!.map(({ planned_at }) => planned_at);
    assert.equal(new Set(planned).size, planned.length);
    for (const { outcome, context_id } of passed[kind]!) {
      if (outcome !== "created") continue;
      const { json } = await second.request("GET", `/v1/contexts/${context_id}`);
      assert.equal(json.source, "scheduled");
    }
  }
});
