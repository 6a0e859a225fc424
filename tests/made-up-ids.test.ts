// Invented ids, or those of others: they are answered as unknown, and create no object.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { countObjects } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf } from "./support/mcp.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let key: string;

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url, [{ input_schema: { required: ["n"] } }]));
  ({ secret: key } = await makeKey(gateway, "caller"));
  // The objects that the caller's tenant has anyway.
  const made = await create(gateway, { parameters: { n: 1 } }, { key });
  assert.equal(made.status, 200, made.text);
  await gateway.request("GET", `/v1/contexts/${made.json.id}/events`, { key });
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const regions = ["na", "sa", "eu", "as", "af", "oc"];
const ulid = "01m8hs0000abcdefghjkmnpqrs";
/** Ids of empty stores, a new one each time. */
let last = 64;
const madeUp = () => {
  last += 1;
  const letters = "0123456789abcdefghjkmnpqrstvwxyz";
  return `ctx_${regions[last % 6]}${letters[last >> 5]}${letters[last & 31]}${ulid}`;
};

/** Asserts that no object of any class is created during `work`. */
async function makingNone(work: () => Promise<unknown>): Promise<void> {
  const before = countObjects(gateway.persist);
  await work();
  assert.deepEqual(countObjects(gateway.persist), before);
}

test("no_route_of_contexts_creates_a_store_for_an_invented_id", async () => {
  await makingNone(async () => {
    const unknown = async (method: string, path: string, body?: unknown) =>
      refused(await gateway.request(method, path, { key, ...(body !== undefined && { body }) }), 404, "not_found");
    for (let turn = 0; turn < 8; turn++) {
      await unknown("GET", `/v1/contexts/${madeUp()}`);
      await unknown("POST", `/v1/contexts/${madeUp()}/cancel`);
      await unknown("POST", `/v1/contexts/${madeUp()}/replay`);
      await unknown("POST", `/v1/contexts/${madeUp()}/input`, { input: 1 });
      await unknown("GET", `/v1/contexts/${madeUp()}/events`);
      await unknown("POST", `/v1/callbacks/default.${madeUp()}.1.aaaaaaaaaaaaaaaaaaaaaa`, { result: 1 });
    }
    for (const headers of [{ prefer: "wait=1" }, { accept: "text/event-stream" }]) {
      const path = "accept" in headers ? "/events" : "";
      refused(await gateway.request("GET", `/v1/contexts/${madeUp()}${path}`, { key, headers }), 404, "not_found");
    }
    const ticket = (await gateway.request("POST", "/v1/tickets", { key: gateway.adminKey })).json.ticket;
    const path = `/v1/contexts/${madeUp()}/events?ticket=${ticket}`;
    refused(
      await gateway.request("GET", path, { key: null, headers: { accept: "text/event-stream" } }),
      404,
      "not_found",
    );
  });
});

test("no_store_is_created_for_an_id_of_another_tenants_region", async () => {
  const made = await gateway.request("PUT", "/v1/tenants/other", { body: { name: "Other" } });
  assert.equal(made.status, 201, made.text);
  const own = made.json.admin_key;
  const { data } = (await gateway.request("GET", "/v1/contexts?owner=*")).json;
  await makingNone(async () => {
    for (const { id } of data) {
      refused(await gateway.request("GET", `/v1/contexts/${id}`, { key: own }), 404, "not_found");
    }
  });
});

test("no_object_is_created_by_tasks_and_plain_tools_of_mcp", async () => {
  await makingNone(async () => {
    const meta = {
      "io.modelcontextprotocol/clientCapabilities": { extensions: { "io.modelcontextprotocol/tasks": {} } },
    };
    for (const method of ["tasks/get", "tasks/cancel", "tasks/result"]) {
      errorOf(await askLegacy(gateway, method, { taskId: madeUp() }, { key }), 200, -32602);
    }
    for (const [method, more] of [
      ["tasks/get", {}],
      ["tasks/cancel", {}],
      ["tasks/update", { inputResponses: {} }],
    ] as const) {
      errorOf(await askModern(gateway, method, { taskId: madeUp(), ...more }, { key, meta }), 200, -32602);
    }
    for (const name of ["context_status", "context_result", "context_cancel"]) {
      await askModern(gateway, "tools/call", { name, arguments: { context_id: madeUp() } }, { key });
    }
    const session = { headers: { "mcp-session-id": "c2Vzc2lvbg.AAAAAAAAAAAAAAAAAAAAAA" }, key };
    assert.equal((await askLegacy(gateway, "tools/list", {}, session)).status, 404);
    assert.equal((await gateway.request("DELETE", "/mcp", session)).status, 404);
  });
});

const served = process.env.NARTHEX_TARGET === "serve" && "failed logins without a trusted address have more counters";

test("no_object_is_created_for_invented_keys_tickets_tokens_codes_and_names", { skip: served }, async () => {
  // Failed logins of this address are counted by one object, which is created now.
  await gateway.request("GET", "/v1/whoami", { key: "nonsense-nonsense" });
  await gateway.request("GET", "/v1/events?ticket=tkt_other1_x", {
    key: null,
    headers: { accept: "text/event-stream" },
  });
  const foreign = key.replace(/_.*/, "");
  await makingNone(async () => {
    for (const tenant of ["unknown1", "unknown2", "unknown3"]) {
      const spoof = key.replace(/^([^_]+_)[^_]*_/, `$1${tenant}.abcdefgh_`);
      for (const text of [spoof, `${foreign}_${tenant}_x`, key.slice(0, -1)]) {
        refused(await gateway.request("GET", "/v1/whoami", { key: text }), 401, "unauthenticated");
      }
      const headers = { accept: "text/event-stream" };
      const path = `/v1/events?ticket=tkt_${tenant}_abcdefghijklmnopqrstuvwxyz`;
      refused(await gateway.request("GET", path, { key: null, headers }), 401, "unauthenticated");
      refused(
        await gateway.request("POST", `/v1/callbacks/${tenant}.${madeUp()}.1.aaaa`, { body: {} }),
        404,
        "not_found",
      );
      const form = (body: Record<string, string>) => ({
        body: new URLSearchParams(body).toString(),
        key: null,
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
      for (const token of [`nxg_${tenant}.abc.r1.AAAA.AAAA`, "nxg_default.abc.c.AAAA.AAAAAAAAAAAAAAAAAAAAAA"]) {
        const redeem = {
          grant_type: "authorization_code",
          code: token,
          code_verifier: "v".repeat(43),
          client_id: "console",
        };
        assert.equal((await gateway.request("POST", "/oauth/token", form(redeem))).status, 400);
        const refresh = { grant_type: "refresh_token", refresh_token: token, client_id: `${tenant}.app` };
        assert.ok([400, 401].includes((await gateway.request("POST", "/oauth/token", form(refresh))).status));
        await gateway.request("POST", "/oauth/revoke", form({ token, client_id: "console" }));
      }
    }
    for (const [method, path] of [
      ["GET", "/v1/services/nothing/connect"],
      ["POST", "/v1/services/nothing/heartbeat"],
      ["POST", "/v1/services/nothing/check"],
      ["GET", "/v1/schedules/nothing"],
      ["GET", "/v1/webhooks/nothing"],
      ["POST", "/v1/webhooks/nothing/test"],
      ["GET", "/v1/webhooks/nothing/deliveries"],
      ["GET", "/v1/tenants/nothing"],
      ["GET", "/v1/limits/nothing"],
    ] as const) {
      refused(await gateway.request(method, path), 404, "not_found");
    }
  });
});

test("no_object_is_created_for_an_idempotency_key_with_a_refused_request", async () => {
  await makingNone(async () => {
    for (let turn = 0; turn < 24; turn++) {
      const headers = { "idempotency-key": `made-up-${turn}` };
      refused(await create(gateway, { parameters: {} }, { key, headers }), 422, "validation_failed");
    }
  });
});

test("a_context_accepted_a_moment_ago_is_found_in_any_store", async () => {
  for (let turn = 0; turn < 12; turn++) {
    const headers = { "idempotency-key": `accepted-${turn}` };
    const { id } = await accepted(gateway, { parameters: { n: turn } }, { headers });
    assert.equal((await gateway.request("GET", `/v1/contexts/${id}`)).status, 200);
    assert.equal((await ended(gateway, id)).status, "completed");
  }
});
