// The data of the version before: `tests/data/` has the folder that a version left behind, killed while it served.
// `UPDATE_DATA=1 npm test -- serve-data` makes it anew, of this version: once for each release, before it is tagged.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "./support/configuration.ts";
import { accepted, create, ended, eventually, register, serviceAt } from "./support/arrange.ts";
import { killed, newFolder, notHere, serve, type Served } from "./support/serve.ts";
import { echo, startService } from "./support/service.ts";

const folder = join(root, "tests/data");
const update = process.env.UPDATE_DATA === "1";
/** Nothing in it expires before the version is forgotten. */
const env = {
  ADMIN_KEY: "the admin key of stored test data",
  KEK_1: Buffer.alloc(32, 1).toString("base64"),
  CONTEXT_RETENTION_DAYS: "3650",
  EVENT_RETENTION_HOURS: "87600",
  AUDIT_RETENTION_DAYS: "3650",
};
const options = { env, adminKey: env.ADMIN_KEY, args: ["--no-demo"] };
/** The port of the service: the data names it. */
const port = 9017;
const secret = "whsec_dGVzdCBkYXRhIG9mIGEgdmVyc2lvbiBiZWZvcmU=";

const put = async (gateway: Served, path: string, body: object) => {
  const answer = await gateway.request("PUT", path, { body });
  assert.equal(answer.status, 201, answer.text);
};

/** Fills a folder with some of everything that is stored. */
async function fill(data: string) {
  const gateway = await serve({ ...options, data });
  const service = await startService(echo, { port });
  const document = serviceAt(service.url, [{ idempotent: true, timeout_seconds: 86_400 }], { signing_secret: secret });
  await register(gateway, "kept", { ...document, credentials: { header: "X-Secret", value: "of the service" } });
  await put(gateway, "/v1/roles/reader", { permissions: ["contexts:read", "contexts:create:kept.*"] });
  await put(gateway, "/v1/limits/many", {
    kind: "requests",
    quota: 1000,
    window_seconds: 60,
    binds: { role: "reader" },
  });
  const later = { capability: "work", parameters: {} };
  await put(gateway, "/v1/schedules/yearly", { cron: "0 0 1 1 *", context: later });
  await put(gateway, "/v1/webhooks/kept", { url: `${service.url}hook`, types: ["context.completed"], enabled: false });
  await put(gateway, "/v1/tenants/other", { name: "Another tenant" });
  const done = await create(gateway, { parameters: { text: "kept" } });
  assert.equal(done.json.status, "completed", done.text);
  const key = await gateway.request("POST", "/v1/keys", {
    body: { name: "kept", role: "reader", expires_in_days: 3650 },
  });
  assert.equal(key.status, 201, key.text);
  const waits = await accepted(gateway, {
    run_at: new Date(Date.now() + 60_000).toISOString(),
    timeout_seconds: 86_400,
    parameters: {},
  });
  await eventually(async () => (await gateway.request("GET", "/v1/events?after=0", json)).text.includes("completed"));
  const { version } = (await gateway.request("GET", "/health")).json;
  await service.stop();
  await killed(await gateway.workerd());
  await gateway.stop();
  return { version, context: done.json.id, waiting: waits.id, key: key.json.secret };
}

const json = { headers: { accept: "application/json" } };

/** Makes the folder anew: what is stored, and the ids and the secret that nothing else has. */
async function makeAnew() {
  const data = join(newFolder(), "data");
  const known = await fill(data);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(join(folder, "known.json"), `${JSON.stringify(known, null, 2)}\n`);
  execFileSync("tar", ["-czf", join(folder, "data.tar.gz"), "--exclude=./run", "-C", data, "."]);
}

test("data_that_the_version_before_has_written_is_served", { skip: notHere }, async () => {
  if (update) await makeAnew();
  const { version, context, waiting, key } = JSON.parse(readFileSync(join(folder, "known.json"), "utf8"));
  const data = newFolder();
  execFileSync("tar", ["-xzf", join(folder, "data.tar.gz"), "-C", data]);
  const service = await startService(echo, { port });
  const gateway = await serve({ ...options, data });
  const get = async (path: string, more: object = {}) => {
    const answer = await gateway.request("GET", path, more);
    assert.equal(answer.status, 200, `${path} of ${version}: ${answer.text}`);
    return answer.json;
  };
  for (const path of [
    "services/kept",
    "roles/reader",
    "limits/many",
    "schedules/yearly",
    "webhooks/kept",
    "tenants/other",
  ])
    await get(`/v1/${path}`);
  assert.deepEqual((await get(`/v1/contexts/${context}`)).result, { text: "kept" });
  assert.equal((await get("/v1/whoami", { key })).role, "reader");
  const { data: events } = await get("/v1/events?after=0", json);
  assert.ok(events.some((event: any) => event.type === "context.completed" && event.subject === context));
  assert.ok((await get("/v1/audit")).data.length > 3);
  // What waited when the version before was killed has run, or has passed the end of its day.
  assert.match((await ended(gateway, waiting)).status, /^(completed|timed_out)$/);
  // The stored secret is decrypted.
  assert.equal((await create(gateway)).json.status, "completed");
  assert.equal(service.calls.at(-1)!.headers["x-secret"], "of the service");
  assert.deepEqual((await get("/v1/registry")).unreadable ?? [], []);
  assert.deepEqual(
    gateway.log().filter((line) => ["warn", "error"].includes(line.level) && line.message !== "request"),
    [],
  );
  await gateway.stop();
  await service.stop();
});
