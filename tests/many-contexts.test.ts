// Lists of contexts among many: what is rare is found, and what is not there costs little.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import {
  create,
  ended,
  eventually,
  makeKey,
  obedient,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { startService } from "./support/service.ts";

const folder = mkdtempSync(join(tmpdir(), "narthex-many-contexts-"));
const service = await startService(obedient);
after(async () => {
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
});

const start = () =>
  startGateway({ persist: folder, vars: { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1" } });

/** The store that has ended contexts. */
function withStore<T>(use: (database: DatabaseSync) => T): T {
  const results: T[] = [];
  databases(folder, "ContextStore", "done", (database) => {
    if (database.prepare("SELECT 1 FROM done LIMIT 1").get()) results.push(use(database));
  });
  assert.equal(results.length, 1);
  return results[0] as T;
}

const LETTERS = "0123456789abcdefghjkmnpqrstvwxyz";
/** A context id of this millisecond, and its row key. */
function idAt(store: string, ms: number, n: number): { id: string; key: string } {
  const value = (BigInt(ms) << 80n) | (BigInt(n) << 58n);
  const text = Array.from({ length: 26 }, (_, at) => LETTERS[Number((value >> BigInt(5 * (25 - at))) & 31n)]).join("");
  return { id: store + text, key: String((BigInt(ms - 1_600_000_000_000) << 22n) | BigInt(n)) };
}

/** Copies a context many times: one for each second before now, the first one the oldest. */
function copies(id: string, count: number, change: (head: any, n: number) => void, ageMs = 120_000): string[] {
  return withStore((database) => {
    const row: any =
      database.prepare("SELECT head, parameters, result FROM done WHERE id = ?").get(id) ?? assert.fail(id);
    const insert = database.prepare(
      "INSERT INTO done (key, id, owner, capability, service, status, head, parameters, result) " +
        "VALUES (CAST(? AS INTEGER), ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    const ids: string[] = [];
    database.exec("BEGIN");
    for (let n = 0; n < count; n += 1) {
      const own = idAt(id.slice(0, 8), Date.now() - 1_000 * (count - n) - ageMs, n % 1_000);
      const head = JSON.parse(row.head);
      Object.assign(head.admission, { id: own.id });
      change(head, n);
      ids.push(own.id);
      const { owner, capability, service } = head.admission;
      const text = JSON.stringify(head);
      insert.run(own.key, own.id, owner, capability, service, head.status, text, row.parameters, row.result);
    }
    database.exec("COMMIT");
    return ids;
  });
}

const count = (table: string) =>
  withStore((database) => Number((database.prepare(`SELECT COUNT(*) AS n FROM ${table}`).get() as { n: number }).n));

/** The ids on all pages, and the number of pages. */
async function all(gateway: Gateway, query: string): Promise<{ ids: string[]; pages: number }> {
  const ids: string[] = [];
  let cursor = "";
  for (let pages = 1; pages < 1_000; pages += 1) {
    const answer = await gateway.request(
      "GET",
      `/v1/contexts?${query.includes("owner=") ? "" : "owner=*&"}${query}${cursor}`,
    );
    assert.equal(answer.status, 200, answer.text);
    ids.push(...answer.json.data.map(({ id }: any) => id));
    if (answer.json.next_cursor === null) return { ids, pages };
    cursor = `&cursor=${encodeURIComponent(answer.json.next_cursor)}`;
  }
  return assert.fail("too many pages");
}

test("what_is_rare_among_many_contexts_is_found_and_reads_little", async () => {
  const first = await start();
  await register(first, "one", serviceAt(service.url));
  const done = (await create(first)).json;
  assert.equal(done.status, "completed");
  await first.stop();

  const COUNT = 30_000;
  const failed = (head: any, code: string) =>
    Object.assign(head, { status: "failed", error: { code, message: "It failed.", service: "one" } });
  const ids = copies(done.id, COUNT, (head, n) => {
    Object.assign(head.admission, { owner: `key:o${Math.floor(n / 10_000)}`, service: n % 2 ? "odd" : "even" });
    if (n === 7_777) failed(head, "upstream_timeout");
    if (n % 2 && n > 100) failed(head, "upstream_error");
    if (n === 12_346) failed(head, "outcome_unknown");
  });
  assert.equal(count("segments"), 0);

  const second = await start();
  // Before they are summarized, and after.
  for (let sweeps = 0; sweeps < 2; sweeps += 1) {
    assert.deepEqual((await all(second, "error_code=upstream_timeout")).ids, []);
    assert.deepEqual((await all(second, "error_code=outcome_unknown")).ids, [ids[12_346]]);
    assert.deepEqual((await all(second, "status=failed&service=even")).ids, [ids[12_346]]);
    assert.deepEqual((await all(second, "status=cancelled")).ids, []);
    const early = await all(second, `status=completed&service=odd&limit=200`);
    assert.deepEqual(early.ids, ids.filter((_, n) => n % 2 && n <= 100).toReversed());
    assert.equal((await all(second, "service=even&limit=200&owner=key:o1")).ids.length, 5_000);
    await second.runCron();
    await second.runCron();
  }
  assert.equal(count("segments"), COUNT / 1_000);
  assert.equal((await all(second, "status=cancelled")).pages, 1);
  // Each occurs in every thousand, but not together: 20 thousands a page.
  assert.equal((await all(second, "status=failed&service=even")).pages, 2);

  // Times are ranges of keys.
  const at = (n: number) => timeOf(ids[n] ?? "");
  const range = `created_after=${at(12_000)}&created_before=${at(12_500)}`;
  assert.deepEqual((await all(second, `${range}&error_code=outcome_unknown`)).ids, [ids[12_346]]);
  assert.equal((await all(second, `${range}&limit=200`)).ids.length, 499);
  const fault = await second.request("GET", "/v1/contexts?error_code=none");
  assert.deepEqual(pointers(refused(fault, 422, "validation_failed")), ["?error_code"]);
  await second.stop();
});

/** The time in an id. */
function timeOf(id: string): string {
  const value = [...id.slice(8, 18)].reduce((sum, letter) => sum * 32n + BigInt(LETTERS.indexOf(letter)), 0n);
  return new Date(Number(value)).toISOString();
}

test("a_context_that_ends_after_its_thousand_was_summarized_is_found", async () => {
  const gateway = await start();
  const other = await makeKey(gateway, "caller");
  const late = await create(
    gateway,
    { parameters: { ms: 4_000 } },
    { key: other.secret, headers: { prefer: "wait=0" } },
  );
  assert.equal(late.status, 202, late.text);
  // A thousand contexts were created after it, and summarized.
  withStore((database) => {
    const key = `(SELECT key FROM live WHERE id = '${late.json.id}')`;
    database.exec(`INSERT INTO segments SELECT ${key} + 1, statuses, services, capabilities, owners, codes
      FROM segments ORDER BY last DESC LIMIT 1`);
  });
  await ended(gateway, late.json.id, { key: other.secret });
  assert.equal(count("outdated"), 1);
  const own = async () => {
    const { json } = await gateway.request("GET", "/v1/contexts", { key: other.secret });
    return json.data.map(({ id }: any) => id);
  };
  assert.deepEqual(await own(), [late.json.id]);
  await gateway.runCron();
  assert.equal(count("outdated"), 0);
  assert.deepEqual(await own(), [late.json.id]);
  await gateway.stop();
});

test("summaries_are_deleted_with_their_contexts", async () => {
  const DAY = 86_400_000;
  const [one] = withStore((database) => database.prepare("SELECT id FROM done LIMIT 1").all() as { id: string }[]);
  copies(one?.id ?? "", 2_500, () => {}, 8 * DAY);
  const gateway = await start();
  await gateway.runCron();
  await gateway.stop();
  // They are older than all others, so they belong to the first thousand.
  assert.equal(count("outdated"), 0);
  withStore((database) => database.exec("DELETE FROM segments"));

  const again = await start();
  for (let sweeps = 0; sweeps < 2; sweeps += 1) await again.runCron();
  await again.stop();
  const all = count("segments");
  assert.equal(all, 32);
  const vars = { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1", CONTEXT_RETENTION_DAYS: "7" };
  const last = await startGateway({ persist: folder, vars });
  await last.runCron();
  await eventually(() => count("done") < 30_100);
  await last.stop();
  // The third thousand begins among them.
  assert.equal(count("segments"), all - 2);
});
