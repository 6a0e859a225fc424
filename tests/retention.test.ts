// Ended contexts are deleted after their retention time, in batches, and nothing else is.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { create, eventually, register, serviceAt } from "./support/arrange.ts";
import { startGateway } from "./support/gateway.ts";
import { startService } from "./support/service.ts";

const folder = mkdtempSync(join(tmpdir(), "narthex-retention-"));
const service = await startService();
after(async () => {
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
});

const start = () =>
  startGateway({
    persist: folder,
    vars: { ADMIN_KEY: "a key that outlives the restart", CONTEXT_RETENTION_DAYS: "7", CONTEXT_SHARDS: "1" },
  });

/** The database of the one store: the only one that has a context in `done`. */
function store(): DatabaseSync {
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!entry.endsWith(".sqlite") || !entry.includes("ContextStore")) continue;
    const database = new DatabaseSync(join(folder, entry));
    const isStore = database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'done'").get();
    if (isStore && database.prepare("SELECT 1 FROM done LIMIT 1").get()) return database;
    database.close();
  }
  return assert.fail("no store has a context");
}

function count(): number {
  const database = store();
  const { n } = database.prepare("SELECT COUNT(*) AS n FROM done").get() as { n: number };
  database.close();
  return n;
}

test("expired_contexts_are_deleted_in_batches_and_the_rest_stays", async () => {
  const first = await start();
  await register(first, "one", serviceAt(service.url));
  const kept = (await create(first)).json.id;
  await first.stop();

  // The same context many times over, as if made 8 days ago (and some 6 days ago): a key is 41 bits of milliseconds
  // since 2020-09-13T12:26:40Z and 22 of the id.
  const open = store();
  const copies = 1200;
  const insert = open.prepare(
    "INSERT INTO done (key, id, owner, capability, service, status, head, parameters, result) " +
      "SELECT CAST(? AS INTEGER), id, owner, capability, service, status, head, parameters, result FROM done WHERE id = ? LIMIT 1",
  );
  const key = (daysAgo: number, n: number) =>
    String((BigInt(Date.now() - daysAgo * 86_400_000 - 1_600_000_000_000) << 22n) + BigInt(n));
  open.exec("BEGIN");
  for (let n = 0; n < copies; n += 1) insert.run(key(8, n), kept);
  for (let n = 0; n < 10; n += 1) insert.run(key(6, n), kept);
  open.exec("COMMIT");
  // One statement has one time: it shows how many contexts were deleted together.
  open.exec("CREATE TABLE deleted (at REAL)");
  open.exec("CREATE TRIGGER deletes AFTER DELETE ON done BEGIN INSERT INTO deleted VALUES (julianday('now')); END");
  open.close();
  assert.equal(count(), copies + 11);

  const second = await start();
  await second.runCron();
  await eventually(() => count() === 11);
  assert.equal((await second.request("GET", `/v1/contexts/${kept}`)).status, 200);
  await second.stop();
  assert.equal(count(), 11);
  // 500 at a time: the alarm takes the next piece.
  const pieces = store().prepare("SELECT COUNT(*) AS n FROM deleted GROUP BY at ORDER BY at").all();
  assert.deepEqual(
    pieces.map(({ n }) => n),
    [500, 500, 200],
  );
});
