// The matrix: every route × every shipped role × an object of one's own, another's, and another tenant's. It is derived
// from the contract: the permission that openapi.json requires (`x-permission`) and the permissions that `/v1/roles`
// lists for a role decide the expected response. This file knows routes only by their paths.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { formatOf } from "./support/contract.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { providerKeys, startModelUpstream } from "./support/model-upstream.ts";
import { echo, type Service, startService } from "./support/service.ts";

type Json = any;
type Relation = "own" | "another's" | "another tenant's";
const relations: Relation[] = ["own", "another's", "another tenant's"];

const openapi: Json = JSON.parse(readFileSync(join(root, "console/openapi.json"), "utf8"));
const operations = Object.entries<Json>(openapi.paths).flatMap(([path, item]) =>
  ["get", "post", "put", "patch", "delete"]
    .filter((method) => item[method] && item[method].security?.length !== 0 && path.startsWith("/v1/"))
    // A callback is authorized by its token alone, not by a role.
    .filter(() => !path.startsWith("/v1/callbacks/"))
    .map((method) => ({
      path,
      method: method.toUpperCase(),
      permission: item[method]["x-permission"] as string | null,
    })),
);

/** Whether a granted permission covers a required one, as the contract describes it. */
function covers(granted: string, wanted: string): boolean {
  const [have, need] = [granted.split(":"), wanted.split(":")];
  for (let at = 0; ; at++) {
    if (at === have.length) return at === need.length;
    if (have[at] === "*" && at === have.length - 1) return true;
    if (at >= need.length || (have[at] !== "*" && have[at] !== need[at])) return false;
  }
}

let gateway: Gateway;
let service: Service;
let models: Service;
/** In each tenant: its admin, a second caller, and a context of the second caller. */
const tenants: Record<string, { admin: string; callersContext: string }> = {};
const grants: Record<string, string[]> = {};

const as =
  (key: string) =>
  (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> =>
    // Otherwise the tenant's event stream would not end.
    gateway.request(method, path, {
      key,
      headers: { accept: "application/json", ...headers },
      ...(body !== undefined && { body }),
    });

async function newKey(admin: string, role: string): Promise<{ id: string; secret: string }> {
  const permissions = role === "service" ? ["services:heartbeat:alpha"] : [];
  const answer = await as(admin)("POST", "/v1/keys", { name: `a ${role}`, role, permissions });
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
}

const issuer = (id: string) => ({
  issuer: `https://${id}.example.com`,
  audience: "https://gateway.example.com",
  jwks_url: `https://${id}.example.com/jwks.json`,
  algorithms: ["ES256"],
  claims: { role: "roles" },
  roles: { staff: "viewer" },
});

const client = {
  name: "CI",
  grant_types: ["client_credentials"],
  auth_method: "client_secret_basic",
  scope: "contexts:read",
};

/** The providers of a tenant's models, in both formats; routes to them have the names of services. */
const providers = (): [string, object][] => [
  [
    "openai",
    {
      name: "A provider",
      type: "llm",
      transport: { kind: "openai", url: `${models.url}v1`, responses: true },
      credentials: { header: "Authorization", value: `Bearer ${providerKeys.openai}` },
      models: [{ id: "small" }],
    },
  ],
  [
    "anthropic",
    {
      name: "A provider",
      type: "llm",
      transport: { kind: "anthropic", url: models.url },
      credentials: { header: "X-API-Key", value: providerKeys.anthropic },
      models: [{ id: "haiku" }],
    },
  ],
];
const route = {
  targets: [
    { service: "openai", model: "small" },
    { service: "anthropic", model: "haiku" },
  ],
};
/** Whether an operation is for the model that its body names. */
const usesModel = (path: string, method: string) => method === "POST" && formatOf(path) !== undefined;

// Paused, so that there is nothing to redeliver for any role.
const webhook = () => ({ url: service.url, enabled: false });

// Binds no key of the matrix.
const limit = { kind: "requests", quota: 5, window_seconds: 60, binds: { key: "unknown" } };
const schedule = { cron: "0 0 1 1 *", context: { capability: "work", service: "alpha" }, enabled: false };

async function newContext(key: string): Promise<string> {
  const answer = await as(key)("POST", "/v1/contexts", { capability: "work", service: "alpha" });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.id;
}

before(async () => {
  gateway = await startGateway({ vars: { COUNT_COSTS: "true", OAUTH: "true" } });
  service = await startService(echo);
  models = await startModelUpstream();
  const made = await gateway.request("PUT", "/v1/tenants/acme", { body: { name: "Acme" } });
  for (const [tenant, admin] of Object.entries({ default: gateway.adminKey, acme: made.json.admin_key as string })) {
    const ask = as(admin);
    for (const [id, provider] of providers()) {
      assert.equal((await ask("PUT", `/v1/services/${id}`, provider)).status, 201);
    }
    // One name exists in both tenants, the other in only one.
    for (const id of ["alpha", "beta", `only-${tenant}`]) {
      assert.equal((await ask("PUT", `/v1/services/${id}`, serviceAt(service.url))).status, 201);
      assert.equal((await ask("PUT", `/v1/roles/${id}`, { permissions: [] })).status, 201);
      assert.equal((await ask("PUT", `/v1/clients/${id}`, client)).status, 201);
      assert.equal((await ask("PUT", `/v1/webhooks/${id}`, webhook())).status, 201);
      assert.equal((await ask("PUT", `/v1/limits/${id}`, limit)).status, 201);
      assert.equal((await ask("PUT", `/v1/schedules/${id}`, schedule)).status, 201);
      assert.equal((await ask("PUT", `/v1/model-routes/${id}`, route)).status, 201);
    }
    tenants[tenant] = { admin, callersContext: await newContext((await newKey(admin, "caller")).secret) };
  }
  for (const id of ["alpha", "beta"]) {
    const made = await gateway.request("PUT", `/v1/issuers/${id}`, { body: issuer(id) });
    assert.equal(made.status, 201, made.text);
  }
  const { json } = await gateway.request("GET", "/v1/roles");
  for (const { name, permissions, shipped } of json.data) if (shipped) grants[name] = permissions;
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  await models?.stop();
});

/** A grant of the tenant's admin for an app; returns its id. */
async function newGrant(tenant: string): Promise<string> {
  const { admin } = tenants[tenant]!;
  const callback = "https://app.example.com/done";
  const body = {
    name: "An app",
    grant_types: ["authorization_code"],
    auth_method: "none",
    redirect_uris: [callback],
    scope: "contexts:read",
  };
  const app = await as(admin)("PUT", "/v1/clients/app", body, { "if-match": "*" });
  const made = app.status === 412 ? await as(admin)("PUT", "/v1/clients/app", body) : app;
  const { client_id } = made.json;
  const code_verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(code_verifier).digest("base64url");
  const form = (path: string, members: Record<string, string>) =>
    gateway.request("POST", path, {
      key: null,
      body: new URLSearchParams(members).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  const asked = { response_type: "code", client_id, code_challenge, code_challenge_method: "S256" };
  const sent = await form("/oauth/authorize", { ...asked, decision: "allow", api_key: admin });
  const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
  const tokens = await form("/oauth/token", { grant_type: "authorization_code", code, code_verifier, client_id });
  assert.equal(tokens.status, 200, tokens.text);
  return (await as(admin)("GET", "/v1/grants?limit=1")).json.data[0].id;
}

/** The id of an object for a path's `{…}`: a fresh one if the call would delete it. */
async function object(
  path: string,
  tenant: string,
  relation: Relation,
  key: string,
  mayCreate: boolean,
): Promise<string> {
  const home = relation === "another tenant's" ? (tenant === "default" ? "acme" : "default") : tenant;
  const there = tenants[home]!;
  if (path.startsWith("/v1/contexts/")) {
    // A role that cannot create has no object of its own.
    return relation === "own" && mayCreate ? newContext(key) : there.callersContext;
  }
  if (path.startsWith("/v1/keys/")) return (await newKey(there.admin, "viewer")).id;
  if (path.startsWith("/v1/tenants/")) return "acme";
  if (path.startsWith("/v1/grants/")) return newGrant(home);
  if (relation === "another tenant's") return `only-${home}`;
  return relation === "own" ? "alpha" : "beta";
}

/** The request: valid and, where possible, without effect. */
function sent(path: string, method: string, id: string): { body?: unknown; headers: Record<string, string> } {
  const headers = { "if-match": '"99999999"' };
  if (path === "/v1/contexts" && method === "POST") return { body: { capability: "work", service: "alpha" }, headers };
  if (path === "/v1/keys" && method === "POST") return { body: {}, headers };
  if (path.startsWith("/v1/services/") && method === "PUT") return { body: serviceAt(service.url), headers };
  if (path.startsWith("/v1/roles/") && method === "PUT") return { body: { permissions: [] }, headers };
  if (path.startsWith("/v1/tenants/") && method === "PUT") return { body: { name: "Acme" }, headers };
  if (path.startsWith("/v1/clients/") && method === "PUT") return { body: client, headers };
  if (path.startsWith("/v1/limits/") && method === "PUT") return { body: limit, headers };
  if (path.startsWith("/v1/issuers/") && method === "PUT") return { body: issuer("gamma"), headers };
  if (path.startsWith("/v1/webhooks/") && method === "PUT") return { body: webhook(), headers };
  if (path.startsWith("/v1/schedules/") && method === "PUT") return { body: schedule, headers };
  if (path.startsWith("/v1/model-routes/") && method === "PUT") return { body: route, headers };
  if (usesModel(path, method)) {
    const said = { input: "Good morning", messages: [{ role: "user", content: "Good morning" }], max_tokens: 5 };
    return { body: { model: id, ...said }, headers };
  }
  if (path.endsWith("/redeliver")) return { body: { event_id: "registry-1" }, headers };
  // By default it would be offline after half a minute.
  if (path.endsWith("/heartbeat")) return { body: { lease_seconds: 3600 }, headers };
  if (method === "PATCH") return { body: {}, headers };
  if (path.endsWith("/input")) return { body: { input: 1 }, headers };
  return { headers };
}

type Expected = "refused" | "hidden" | "done";

/** The expected outcome of a call, from the contract alone. */
function expected(
  granted: string[],
  path: string,
  permission: string | null,
  tenant: string,
  relation: Relation,
  id: string,
): Expected {
  // A list has what its reader may use.
  if (permission === null || path === "/v1/models") return "done";
  const asked = permission
    .replace("{model}", id)
    .replace("{service}", path.startsWith("/v1/services/") ? id : "alpha")
    .replace("{capability}", "work");
  const may = (wanted: string) => granted.some((one) => covers(one, wanted));
  // Whether a model exists is shown only to those who may use it; and there is no permission for one that does not.
  if (path === "/v1/models/{name}" && !may(asked)) return "hidden";
  if (permission === "models:use:{model}" && relation === "another tenant's") return "hidden";
  if (!may(asked)) return "refused";
  // Resources of the deployment exist for its own tenant only.
  if (path.startsWith("/v1/tenants")) return tenant === "default" ? "done" : "hidden";
  if (path.startsWith("/v1/issuers/") && tenant !== "default") return "hidden";
  if (!path.includes("{")) return "done";
  if (relation === "another tenant's") return "hidden";
  // A context belongs to its creator, and to roles that read all contexts; everything else belongs to the tenant.
  if (path.startsWith("/v1/contexts/") && relation === "another's") return may("contexts:read:*") ? "done" : "hidden";
  return "done";
}

function became({ status }: Answer): Expected {
  if (status === 403) return "refused";
  return status === 404 ? "hidden" : "done";
}

test("the_matrix_has_every_route", () => {
  assert.ok(operations.length >= 33, `${operations.length} routes`);
  for (const { path, permission } of operations) {
    assert.ok(permission !== undefined, path);
    // Every caller may read its own identity and grants.
    assert.ok(permission !== null || ["/v1/whoami", "/v1/grants"].includes(path), `${path} asks for nothing`);
  }
});

let cells = 0;
for (const tenant of ["default", "acme"]) {
  for (const role of ["admin", "operator", "caller", "viewer", "service"]) {
    test(`${role}_of_${tenant}_may_do_exactly_what_its_permissions_grant`, async () => {
      const { id: keyId, secret } = await newKey(tenants[tenant]!.admin, role);
      const granted = role === "service" ? ["services:heartbeat:alpha"] : grants[role]!;
      const ask = as(secret);
      const me = (await ask("GET", "/v1/whoami")).json;
      assert.deepEqual(me, { principal: `key:${keyId}`, name: `a ${role}`, tenant, role, permissions: granted });
      const mayCreate = granted.some((one) => covers(one, "contexts:create:alpha.work"));
      for (const { path, method, permission } of operations) {
        const hasObject = path.includes("{") || usesModel(path, method);
        for (const relation of hasObject ? relations : relations.slice(0, 1)) {
          const id = hasObject ? await object(path, tenant, relation, secret, mayCreate) : "";
          // A schedule requires the permission to create the context.
          const plansInVain = path.startsWith("/v1/schedules/") && method === "PUT" && !mayCreate;
          const byPermission = expected(
            granted,
            path,
            permission,
            tenant,
            relation === "own" && path.startsWith("/v1/contexts/") && !mayCreate ? "another's" : relation,
            id,
          );
          const wanted = plansInVain ? "refused" : byPermission;
          const { body, headers } = sent(path, method, id);
          const answer = await ask(method, path.replace(/\{\w+\}/, id), body, headers);
          const label = `${role} of ${tenant}: ${method} ${path}, ${relation}: ${answer.status} ${answer.text.slice(0, 300)}`;
          assert.ok(answer.status < 500 && answer.status !== 401, label);
          // A precondition is evaluated first, on a resource that does not exist: 412 reveals no more than 404.
          const asIfAbsent = wanted === "hidden" && answer.status === 412;
          if (!asIfAbsent) assert.equal(became(answer), wanted, label);
          cells += 1;
        }
      }
    });
  }
}

test("objects_of_the_other_tenant_were_not_changed", async () => {
  assert.ok(cells > 400, `${cells} cells`);
  console.log(`matrix: ${operations.length} routes, ${cells} cells`);
  for (const [tenant, { admin, callersContext }] of Object.entries(tenants)) {
    const ask = as(admin);
    for (const id of ["alpha", "beta", `only-${tenant}`]) {
      const { headers } = await ask("GET", `/v1/roles/${id}`);
      assert.equal(headers.get("etag"), '"1"');
      assert.equal((await ask("GET", `/v1/services/${id}`)).status, 200);
    }
    assert.equal((await ask("GET", `/v1/contexts/${callersContext}`)).json.tenant, tenant);
    const other = tenant === "default" ? "acme" : "default";
    for (const path of [`/v1/services/only-${other}`, `/v1/roles/only-${other}`]) {
      assert.equal((await ask("GET", path)).status, 404, "nothing of the other's was made here");
    }
  }
});

test("lists_show_exactly_what_calls_allow", async () => {
  const narrow = { permissions: ["services:read", "contexts:read", "contexts:create:beta.*"] };
  await gateway.request("PUT", "/v1/roles/narrow", { body: narrow });
  const all: Record<string, string[]> = { contexts: [], services: [], keys: [], roles: [] };
  for (const { admin } of Object.values(tenants)) {
    for (const [kind, ids] of Object.entries(all)) {
      const { json } = await as(admin)("GET", `/v1/${kind}${kind === "contexts" ? "?owner=*&limit=200" : ""}`);
      ids.push(...json.data.map(({ id, name }: Json) => (kind === "roles" ? name : id)));
    }
  }
  for (const role of ["admin", "operator", "caller", "viewer", "service", "narrow"]) {
    const { secret } = await newKey(gateway.adminKey, role);
    const ask = as(secret);
    if (role === "caller") await newContext(secret);
    for (const [kind, ids] of Object.entries(all)) {
      const everybodys = await ask("GET", `/v1/${kind}${kind === "contexts" ? "?owner=*&limit=200" : ""}`);
      const list =
        everybodys.status === 403 && kind === "contexts" ? await ask("GET", "/v1/contexts?limit=200") : everybodys;
      const shown =
        list.status === 200 ? list.json.data.map(({ id, name }: Json) => (kind === "roles" ? name : id)) : [];
      for (const id of new Set([...ids, ...shown])) {
        const { status } = await ask("GET", `/v1/${kind}/${id}`);
        assert.equal(
          status === 200,
          shown.includes(id),
          `${role}: ${kind}/${id} is listed: ${shown.includes(id)}, read: ${status}`,
        );
        if (list.status !== 200) assert.equal(status, 403, `${role}: ${kind}/${id}`);
      }
    }
    // Capabilities are listed for roles that read services; exactly the listed ones can be called.
    const listed = await ask("GET", "/v1/capabilities");
    if (listed.status !== 200) continue;
    const offers = listed.json.data.flatMap(({ name, services }: Json) =>
      services.map(({ service }: Json) => `${service}.${name}`),
    );
    for (const id of ["alpha", "beta", "only-default"]) {
      const called = await ask("POST", "/v1/contexts", { capability: "work", service: id });
      assert.equal(called.status === 200, offers.includes(`${id}.work`), `${role}: ${id}.work: ${called.text}`);
    }
  }
});
