// What a later version of the gateway has written: the version before finds it during a deployment and after a
// rollback. It is kept, it fails nothing else, and what it would have refused is refused.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { accepted, create, ended, eventually, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { changeDocuments, databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, startService } from "./support/service.ts";

const folder = mkdtempSync(join(tmpdir(), "narthex-later-"));
const service = await startService(echo);
const received: string[] = [];
const hook = await startService((call, response) => {
  received.push(call.json.type);
  response.writeHead(204).end();
});
after(async () => {
  await service.stop();
  await hook.stop();
  rmSync(folder, { recursive: true, force: true });
});

const start = () =>
  startGateway({ persist: folder, vars: { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1" } });

/** Replaces texts in the registry's outlines. */
function changeOutlines(service: string, change: (outline: any) => void): void {
  databases(folder, "Registry", "outlines", (database) => {
    const row = database.prepare("SELECT outline FROM outlines WHERE service = ?").get(service);
    if (!row) return;
    const outline = JSON.parse(String(row.outline));
    change(outline);
    database.prepare("UPDATE outlines SET outline = ? WHERE service = ?").run(JSON.stringify(outline), service);
  });
}

const now = () => Date.now();
function insertDocument(kind: string, id: string, document: object): void {
  const stored = { kind, id, document, version: 1, created_at: now(), updated_at: now() };
  databases(folder, "Registry", "documents", (database) => {
    if (!database.prepare("SELECT 1 FROM documents WHERE kind = 'service'").get()) return;
    database
      .prepare("INSERT INTO documents (kind, id, document) VALUES (?, ?, ?)")
      .run(kind, id, JSON.stringify(stored));
  });
}

/** The registry's text of a document. */
function storedText(kind: string, id: string): string {
  let text = "";
  databases(folder, "Registry", "documents", (database) => {
    const row = database.prepare("SELECT document FROM documents WHERE kind = ? AND id = ?").get(kind, id);
    if (row) text = String(row.document);
  });
  return text;
}

const problem = async (gateway: Gateway, method: string, path: string, key?: string, body?: object) => {
  const answer = await gateway.request(method, path, { ...(key && { key }), ...(body && { body }) });
  const { detail } = refused(answer, 503, "later_version");
  assert.equal(answer.headers.get("retry-after"), "30");
  return /^The (.*) was written by a later version/.exec(detail)?.[1];
};

test("what_a_later_version_wrote_is_kept_and_refuses_what_it_may_have_refused", async () => {
  const first = await start();
  await register(first, "one", serviceAt(service.url, [{ name: "work" }, { name: "paid" }]));
  await register(first, "two", serviceAt(service.url, [{ name: "flow", version: "2.0.0" }]));
  const plain = await makeKey(first, "caller");
  const narrow = await makeKey(first, "caller");
  const viewer = await makeKey(first, "viewer");
  const puts = {
    "/v1/roles/auditor": { permissions: ["audit:read"] },
    "/v1/limits/tokens": { kind: "requests", quota: 1000, window_seconds: 60, binds: { role: "viewer" } },
    "/v1/webhooks/mail": { url: `${hook.url}/hook`, types: ["context.completed"] },
    "/v1/schedules/nightly": { cron: "0 3 * * *", context: { capability: "work" } },
  };
  for (const [path, body] of Object.entries(puts)) {
    const answer = await first.request("PUT", path, { body });
    assert.equal(answer.status, 201, answer.text);
  }
  const auditor = await makeKey(first, "auditor");
  const waiting = await accepted(first, { capability: "flow", run_at: new Date(now() + 2_000).toISOString() });
  await first.stop();

  const tube = (service: any) => (service.transport = { kind: "tube", length: 3 });
  const originals = new Map(
    [
      ["service", "two"],
      ["key", narrow.id],
      ["limit", "tokens"],
      ["role", "auditor"],
      ["webhook", "mail"],
      ["schedule", "nightly"],
    ].map(([kind = "", id = ""]) => [`${kind} ${id}`, storedText(kind, id)]),
  );
  const change = (kind: string, id: string, edit: (document: any) => void) =>
    changeDocuments(folder, kind, (document, own) => own === id && edit(document));
  change("service", "two", ({ service }) => tube(service));
  changeOutlines("two", ({ service }) => (service.transport = { tube: { length: 3 } }));
  change("key", narrow.id, (key) => Object.assign(key, { needs: ["addresses"], addresses: ["10.0.0.0/8"] }));
  change("limit", "tokens", ({ document }) => (document.kind = "tokens"));
  change("role", "auditor", ({ document }) => (document.permissions = { all: ["audit:read"] }));
  change("webhook", "mail", (stored) => (stored.document = { address: "ops@example.com" }));
  change("schedule", "nightly", ({ document }) => (document.cron = { moon: "full" }));
  insertDocument("budget", "monthly", { binds: { capability: "paid" }, limit: { amount: "50.00" } });
  insertDocument("dashboard", "main", { rows: [] });
  databases(folder, "Registry", "notifications", (database) => {
    database
      .prepare("INSERT INTO notifications (notification) VALUES (?)")
      .run(JSON.stringify({ fly: { to: "moon" } }));
  });

  const second = await start();
  // Everything else works.
  assert.equal((await create(second)).json.status, "completed");
  assert.equal((await create(second, {}, { key: plain.secret })).json.status, "completed");
  const services = (await second.request("GET", "/v1/services")).json.data.map(({ id }: any) => id);
  assert.deepEqual(services, ["one"]);
  await register(second, "three", serviceAt(service.url, [{ name: "more" }]));
  for (const path of ["/v1/keys", "/v1/limits", "/v1/roles", "/v1/webhooks", "/v1/schedules", "/v1/registry"])
    assert.equal((await second.request("GET", path)).status, 200, path);
  await second.runCron();
  const { unreadable } = (await second.request("GET", "/v1/registry")).json;
  assert.deepEqual(unreadable.toSorted(), [
    "budgets/monthly",
    "dashboards/main",
    `keys/${narrow.id}`,
    "limits/tokens",
    "roles/auditor",
    "schedules/nightly",
    "services/two",
    "webhooks/mail",
  ]);

  // What is not known refuses, and says so.
  const body = { capability: "paid" };
  assert.equal(await problem(second, "POST", "/v1/contexts", plain.secret, body), "budget monthly");
  assert.equal(await problem(second, "GET", "/v1/contexts", viewer.secret), "limit tokens");
  assert.equal(await problem(second, "GET", "/v1/contexts", narrow.secret), `API key ${narrow.id}`);
  assert.equal(await problem(second, "GET", "/v1/audit", auditor.secret), "role auditor");
  assert.equal(await problem(second, "GET", "/v1/services/two"), "service two");
  assert.equal(await problem(second, "GET", "/v1/limits/tokens"), "limit tokens");
  assert.equal(await problem(second, "GET", "/v1/webhooks/mail"), "webhook mail");
  assert.equal(await problem(second, "GET", `/v1/keys/${narrow.id}`), `key ${narrow.id}`);
  const away = await create(second, { capability: "flow" });
  refused(away, 503, "no_service_available");
  assert.ok(away.headers.get("retry-after"));
  // Its time has come, but its service may only be called by a version that knows how.
  await eventually(() => now() > Date.parse(waiting.created_at) + 3_000);
  assert.equal((await second.request("GET", `/v1/contexts/${waiting.id}`)).json.status, "queued");
  const patched = await second.request("PATCH", "/v1/services/two", {
    body: { weight: 2 },
    headers: { "if-match": "*", "content-type": "application/merge-patch+json" },
  });
  refused(patched, 503, "later_version");
  await second.stop();

  // The later version finds what it has written.
  assert.ok(storedText("budget", "monthly") && storedText("dashboard", "main"));
  for (const [name, text] of originals) {
    const [kind = "", id = ""] = name.split(" ");
    assert.notEqual(storedText(kind, id), text);
    databases(folder, "Registry", "documents", (database) => {
      database.prepare("UPDATE documents SET document = ? WHERE kind = ? AND id = ?").run(text, kind, id);
    });
  }
  changeOutlines("two", ({ service }) => (service.transport = "http"));
  const rows: Record<string, number> = {};
  const count = (className: string, table: string, where: string) =>
    databases(folder, className, table, (database) => {
      const found = database.prepare(`SELECT COUNT(*) AS n FROM ${table} WHERE ${where}`).get();
      rows[table] = (rows[table] ?? 0) + Number(found?.n);
    });
  count("EventHub", "webhooks", "id = 'mail'");
  count("Scheduler", "schedules", "id = 'nightly'");
  count("Registry", "notifications", `notification LIKE '%"fly"%'`);
  assert.deepEqual(rows, { webhooks: 1, schedules: 1, notifications: 1 });

  const third = await start();
  const done = await ended(third, waiting.id);
  assert.equal(done.status, "completed", JSON.stringify(done));
  assert.equal((await create(third, {}, { key: narrow.secret })).json.status, "completed");
  assert.equal((await third.request("GET", "/v1/contexts", { key: viewer.secret })).status, 200);
  await eventually(() => received.includes("context.completed"));
  await third.stop();
});
