// The short version of `npm run fault -- --service-kills`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { killServices } from "./fault/service-kills.mjs";
import { startGateway } from "./support/gateway.ts";

test("a_service_that_is_killed_loses_nothing_and_runs_nothing_twice_that_must_not", async () => {
  const gateway = await startGateway();
  const undo: (() => void)[] = [];
  try {
    const { rows, violations } = await killServices(gateway, { kills: 4, seed: 7 }, (one) => void undo.push(one));
    assert.deepEqual(violations, [], JSON.stringify(rows));
  } finally {
    for (const one of undo) one();
    await gateway.stop();
  }
});
