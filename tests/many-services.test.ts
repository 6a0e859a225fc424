// A thousand services with twenty thousand tools: an isolate keeps their index, and the documents that it uses.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { eventually, register, serviceAt } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, startService } from "./support/service.ts";

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

const MiB = 1024 * 1024;
const SERVICES = 1_000;
const TOOLS = 20;
const vars = { ADMIN_KEY: "a key that outlives the restart", COUNT_COSTS: "true" };
const idOf = (at: number) => `service-${String(at).padStart(4, "0")}`;
const toolOf = (at: number, tool: number) => `search_documents_${at}_${tool}`;

/** The memory of the Wasm instance after all requests so far. */
async function memory(gateway: Gateway): Promise<number> {
  const lines = gateway.logs.length;
  await gateway.request("GET", "/v1/whoami");
  const found = () =>
    gateway.logs.slice(lines).findLast((line) => line.includes('"/v1/whoami"') && line.includes("memory_bytes"));
  await eventually(() => found() !== undefined);
  return JSON.parse(found()!).memory_bytes;
}

/** Whether a call makes no request to the registry. */
async function callsWithoutTheRegistry(gateway: Gateway, call: () => Promise<unknown>): Promise<boolean> {
  const requests = async () =>
    (await gateway.request("GET", "/v1/costs", { contract: false })).json.object_requests.registry;
  const [before, between] = [await requests(), await requests()];
  await call();
  // Reading the counters costs requests too.
  return (await requests()) - between === between - before;
}

/** Fills up to a thousand services with copies, as a version without an index would have stored them. */
function multiply(folder: string, model: string): void {
  databases(folder, "Registry", "documents", (database) => {
    const stored = database.prepare("SELECT document FROM documents WHERE kind = 'service' AND id = ?").get(model);
    if (!stored) return;
    const write = database.prepare("INSERT OR IGNORE INTO documents (kind, id, document) VALUES ('service', ?, ?)");
    database.exec("BEGIN");
    for (let at = 0; at < SERVICES; at += 1) {
      const document = JSON.parse(String(stored.document));
      document.service.id = idOf(at);
      for (const [tool, capability] of document.service.capabilities.entries()) capability.name = toolOf(at, tool);
      write.run(idOf(at), JSON.stringify(document));
    }
    database.exec("DELETE FROM outlines; DELETE FROM changes; COMMIT");
  });
}

test("an_isolate_keeps_the_index_of_a_thousand_services_and_what_it_uses", { timeout: 300_000 }, async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-many-"));
  undo.push(() => rmSync(persist, { recursive: true, force: true }));
  const service = await startService(echo);
  undo.push(() => service.stop());
  const before = await startGateway({ persist, vars });
  const properties = Object.fromEntries(
    Array.from({ length: 10 }, (_, at) => [
      `member_${at}`,
      { type: "string", maxLength: 100, pattern: "^[a-z]*$", description: "What it means. ".repeat(6) },
    ]),
  );
  const input_schema = { type: "object", properties, additionalProperties: false };
  const described = (at: number) =>
    serviceAt(
      service.url,
      Array.from({ length: TOOLS }, (_, tool) => ({
        name: toolOf(at, tool),
        idempotent: tool % 3 === 0,
        input_schema,
      })),
    );
  // Those that are called; their secrets are bound to their ids.
  const called = Array.from({ length: 20 }, (_, at) => at * 37);
  for (const at of [...called, 38]) await register(before, idOf(at), described(at));
  const call = (gateway: Gateway, at: number, parameters = {}) =>
    gateway.request("POST", "/v1/contexts", {
      body: { capability: toolOf(at, 7), parameters },
      headers: { prefer: "wait=20" },
    });
  await before.stop();
  multiply(persist, idOf(0));
  const empty = await startGateway({ vars });
  const base = await memory(empty);
  await empty.stop();

  const gateway = await startGateway({ persist, vars });
  undo.push(() => gateway.stop());
  for (const at of called) {
    const answer = await call(gateway, at, { member_1: "a" });
    assert.equal(answer.json.status, "completed", answer.text);
  }
  // Its schema is there too.
  assert.equal((await call(gateway, 74, { member_1: "A" })).status, 422);
  const grown = (await memory(gateway)) - base;
  assert.ok(grown <= 30 * MiB, `the instance has grown by ${(grown / MiB).toFixed(1)} MiB`);
  const size = (await gateway.request("GET", "/v1/registry")).json;
  assert.equal(size.documents.services.count, SERVICES);
  assert.ok(size.bytes > 25 * MiB, `${size.bytes} bytes in all`);
  // The overhead of a service in a message includes its observed status, which these do not have.
  assert.ok(size.index_bytes - 320 * SERVICES < MiB, `${size.index_bytes} bytes of an index`);

  // Changes reach everybody, and so does the end of a service.
  const patched = await gateway.request("PATCH", `/v1/services/${idOf(74)}`, {
    body: { capabilities: [{ name: "renamed", input_schema: { type: "object", maxProperties: 0 } }] },
    headers: { "if-match": "*" },
  });
  assert.equal(patched.status, 200, patched.text);
  assert.equal((await call(gateway, 74)).status, 422);
  const renamed = { body: { capability: "renamed", parameters: { any: 1 } } };
  assert.equal((await gateway.request("POST", "/v1/contexts", renamed)).status, 422);
  assert.equal(
    (await gateway.request("DELETE", `/v1/services/${idOf(37)}`, { headers: { "if-match": "*" } })).status,
    204,
  );
  assert.equal((await call(gateway, 37)).status, 422);
  assert.equal((await call(gateway, 38)).json.status, "completed");
  // Lists are complete, and displace nothing.
  const listed: string[] = [];
  for (let address: string | undefined = "/v1/services?limit=250"; address !== undefined;) {
    const answer = await gateway.request("GET", address, { contract: false });
    listed.push(...answer.json.data.map(({ id }: any) => id));
    address = /^<(?<next>.*)>;/.exec(answer.headers.get("link") ?? "")?.groups?.next;
  }
  assert.equal(new Set(listed).size, SERVICES - 1);
  // A store asks the registry for the revision now and then.
  await eventually(() => callsWithoutTheRegistry(gateway, () => call(gateway, 38)));
  assert.ok(!(await callsWithoutTheRegistry(gateway, () => call(gateway, 999))), "it was not read for a list only");
  const tools = await gateway.request("GET", `/v1/capabilities?service=${idOf(999)}`);
  assert.equal(tools.json.data.length, TOOLS);
});

test("an_isolate_that_has_not_heard_of_a_change_decides_again_when_it_reads_the_document", async () => {
  const service = await startService(echo);
  const gateway = await startGateway({ vars, elsewhere: true });
  undo.push(async () => {
    await gateway.stop();
    await service.stop();
  });
  // Too large to come with the index.
  const input_schema = { type: "object", description: "x".repeat(150_000) };
  for (const id of ["kept", "deleted", "renamed"]) {
    await register(gateway, id, serviceAt(service.url, [{ name: `only-${id}`, input_schema }, { name: "shared" }]));
  }
  const call = (capability: string) =>
    gateway.askElsewhere(
      "POST",
      "/v1/contexts",
      gateway.adminKey,
      { capability, parameters: {} },
      { prefer: "wait=20" },
    );
  assert.equal(await call("only-kept"), 200);
  const match = { "if-match": "*" };
  assert.equal((await gateway.request("DELETE", "/v1/services/deleted", { headers: match })).status, 204);
  const body = { capabilities: [{ name: "only-now", input_schema }, { name: "shared" }] };
  assert.equal((await gateway.request("PATCH", "/v1/services/renamed", { body, headers: match })).status, 200);
  // The other isolate still has the outlines of before, and reads these documents for the first time.
  assert.equal(await call("only-deleted"), 422);
  assert.equal(await call("only-renamed"), 422);
  assert.equal(await call("only-now"), 200);
  for (let at = 0; at < 10; at += 1) assert.equal(await call("shared"), 200);
});
