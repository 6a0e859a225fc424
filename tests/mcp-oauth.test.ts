// Authorization of MCP endpoints: how a client discovers where to get a token, and which token is valid at which
// endpoint.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf, resultOf } from "./support/mcp.ts";

let gateway: Gateway;
let client: { client_id: string; secret: string };

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  await register(gateway, "words", serviceAt("http://127.0.0.1:9/"));
  const body = {
    name: "An agent",
    grant_types: ["client_credentials"],
    scope: "contexts:create:other.* contexts:read",
  };
  const made = await gateway.request("PUT", "/v1/clients/agent", { body });
  assert.equal(made.status, 201, made.text);
  client = made.json;
});
after(() => gateway?.stop());

/** A token for the endpoint at this path. Default: the API. */
async function token(path?: string): Promise<string> {
  const form = new URLSearchParams({ grant_type: "client_credentials", ...(path && { resource: gateway.url + path }) });
  const basic = Buffer.from(`${encodeURIComponent(client.client_id)}:${encodeURIComponent(client.secret)}`).toString(
    "base64",
  );
  const headers = { "content-type": "application/x-www-form-urlencoded", authorization: `Basic ${basic}` };
  const answer = await gateway.request("POST", "/oauth/token", { key: null, body: form.toString(), headers });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.access_token;
}

test("a_challenge_leads_to_the_metadata_of_the_very_endpoint", async () => {
  for (const path of ["/mcp", "/mcp/words"]) {
    const answer = await askModern(gateway, "tools/list", {}, { key: null, path });
    errorOf(answer, 401, 401);
    const metadata = answer.headers.get("www-authenticate")!.match(/^Bearer resource_metadata="(.*)"$/)![1]!;
    assert.equal(metadata, `${gateway.url}/.well-known/oauth-protected-resource${path}`);
    const document = await gateway.request("GET", metadata.slice(gateway.url.length), { key: null });
    assert.equal(document.json.resource, gateway.url + path);
  }
});

test("a_token_is_for_one_endpoint", async () => {
  const tokens = { "/mcp": await token("/mcp"), "/mcp/words": await token("/mcp/words"), "": await token() };
  // Twice, because verified tokens are cached.
  for (const _ of [1, 2]) {
    for (const [made, key] of Object.entries(tokens)) {
      for (const path of ["/mcp", "/mcp/words"]) {
        const answer = await askLegacy(gateway, "tools/list", {}, { key, path });
        if (made === path) resultOf(answer);
        else errorOf(answer, 401, 401);
      }
      const whoami = await gateway.request("GET", "/v1/whoami", { key });
      assert.equal(whoami.status, made === "" ? 200 : 401, made);
    }
  }
});

test("a_missing_permission_of_a_token_is_a_step_up_challenge", async () => {
  const answer = await askModern(
    gateway,
    "tools/call",
    { name: "work", arguments: {} },
    { key: await token("/mcp/words"), path: "/mcp/words" },
  );
  errorOf(answer, 403, 403);
  const metadata = `${gateway.url}/.well-known/oauth-protected-resource/mcp/words`;
  assert.equal(
    answer.headers.get("www-authenticate"),
    `Bearer error="insufficient_scope", scope="contexts:create:words.work", resource_metadata="${metadata}"`,
  );
});
