// How many rows a context writes at its store, and that the rows it takes over are those of contexts that ended.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, register, serviceAt } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, startService } from "./support/service.ts";
import { type Events, openEvents } from "./support/socket.ts";

const folder = mkdtempSync(join(tmpdir(), "narthex-rows-"));
const service = await startService(echo);
after(async () => {
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
});

const vars = { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1", COUNT_COSTS: "true" };
const start = () => startGateway({ persist: folder, vars });

const written = async (gateway: Gateway) =>
  (await gateway.request("GET", "/v1/costs", { contract: false })).json.rows_written.store as number;

/** The ids in a table of the store. */
function ids(table: "live" | "done"): string[] {
  let found: string[] = [];
  databases(folder, "ContextStore", "live", (database) => {
    found = database
      .prepare(`SELECT id FROM ${table} ORDER BY key`)
      .all()
      .map(({ id }) => String(id));
  });
  return found;
}

/** All events of the log, and those to come. */
const eventsOf = (gateway: Gateway) => openEvents(gateway, { query: { after: "0" } });

/** The contexts that have ended, in the order of their events. */
const endedIn = (events: Events) =>
  events.messages.filter(({ type }) => type === "context.completed").map(({ subject }) => subject as string);

/** Creates contexts one after the other, each when the hub has the events of the one before. */
async function inTurn(gateway: Gateway, events: Events, times: number): Promise<string[]> {
  const made: string[] = [];
  for (let n = 0; n < times; n += 1) {
    const { json } = await create(gateway);
    assert.equal(json.status, "completed");
    made.push(json.id);
    await events.next((event) => event.type === "context.completed" && event.subject === json.id);
    // The store receives the hub's reply.
    await pause(100);
  }
  return made;
}

/** There is a row for as many contexts as were live at once: the last, and one whose row was not spare in time. */
function checkLive(made: string[]): void {
  const live = ids("live");
  assert.ok(live.length <= 2 && live.at(-1) === made.at(-1), `${live}`);
}

test("a_context_writes_two_rows_and_takes_over_that_of_one_that_ended", async () => {
  const first = await start();
  await register(first, "one", serviceAt(service.url));
  let events = await eventsOf(first);
  const made = await inTurn(first, events, 3);
  const before = await written(first);
  made.push(...(await inTurn(first, events, 10)));
  // One more for each alarm that rings in between.
  const rows = (await written(first)) - before;
  assert.ok(rows >= 20 && rows <= 23, `${rows}`);
  await first.stop();
  assert.deepEqual(ids("done"), made);
  checkLive(made);

  // After a restart too, once the hub has confirmed the last events again; none is in its log twice.
  const second = await start();
  events = await eventsOf(second);
  made.push(...(await inTurn(second, events, 2)));
  assert.deepEqual(endedIn(events), made);
  for (const id of made) assert.equal((await second.request("GET", `/v1/contexts/${id}`)).json.status, "completed");
  await second.stop();
  checkLive(made);
});

test("tables_of_an_earlier_version_get_their_new_column", async () => {
  const first = await start();
  const { id } = await accepted(first, { run_at: new Date(Date.now() + 4_000).toISOString() });
  await first.stop();
  databases(folder, "ContextStore", "live", (database) => database.exec("ALTER TABLE live DROP COLUMN acknowledged"));
  const second = await start();
  const events = await eventsOf(second);
  const made = await inTurn(second, events, 2);
  assert.equal((await ended(second, id)).status, "completed");
  await events.next((event) => event.type === "context.completed" && event.subject === id);
  await pause(100);
  const last = await inTurn(second, events, 1);
  await second.stop();
  const all = ids("done");
  assert.deepEqual([...all].sort(), [...endedIn(events)].sort());
  assert.ok([id, ...made, ...last].every((one) => all.includes(one)));
});
