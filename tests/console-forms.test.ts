// The console's forms and what they create: services, input, keys, roles, limits and issuers; and what a key's
// permissions hide.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeKey, register, serviceAt } from "./support/arrange.ts";
import { checked, close, countWords, furnished, open, runSnippets, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let own: Gateway;
let words: Service;

before(async () => {
  if (skip) return;
  gateway = await startGateway();
  own = await furnished();
  words = await startService(countWords);
});
after(async () => {
  await Promise.all([gateway, own, words].map((one) => one?.stop()));
});

test("keys_roles_and_limits_are_created_edited_and_ended", { skip }, async () => {
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.getByRole("link", { name: "Access" }).click();
  await page.getByRole("link", { name: "roles" }).click();
  await page.getByRole("button", { name: "New role" }).click();
  await page.getByLabel("Name").fill("reader");
  await page.getByLabel("permissions").fill("contexts:read\nevents:read");
  await page.getByRole("button", { name: "Create role" }).click();
  await page.getByText("contexts:read, events:read").waitFor();

  await page.getByRole("link", { name: "limits" }).click();
  await page.getByRole("button", { name: "New limit" }).click();
  await page.getByLabel("Name").fill("readers");
  await page.getByLabel("quota").fill("100");
  await page.getByLabel("window seconds").fill("60");
  await page.getByLabel("Binds").selectOption("a role");
  await page.getByLabel("Which one").fill("reader");
  await page.getByRole("button", { name: "Create limit" }).click();
  await page.getByText('100 requests in 60 s · role "reader"').waitFor();
  await page.locator("li", { hasText: "readers" }).getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("quota").fill("200");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("200 requests in 60 s").waitFor();

  await page.getByRole("link", { name: "keys" }).click();
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("name").fill("a reader");
  await page.getByLabel("role").selectOption("reader");
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = await page.locator(".note code").innerText();
  assert.match(secret, /^nx_default-/);
  await page.getByRole("button", { name: "Copy Secret of a reader" }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);

  // Actions that the key does not permit are hidden, and revoking the key ends the session.
  const theirs = await open(gateway);
  await signIn(theirs, secret);
  await theirs.getByText("Live", { exact: true }).waitFor();
  assert.equal(await theirs.getByRole("link", { name: "Register a service" }).count(), 0);
  await page.locator("li", { hasText: "a reader" }).getByRole("button", { name: "Revoke" }).click();
  await theirs.getByText(/^Your key .* Sign in again\.$/).waitFor();
  await close(theirs);

  await page.getByRole("link", { name: "audit" }).click();
  await page.getByText("key.revoked").waitFor();
  await close(page);
});

test("the_snippets_run_as_they_are", { skip }, async () => {
  const { secret } = await makeKey(own, "caller");
  const page = await open(own);
  await signIn(page, own.adminKey);
  await page.getByRole("link", { name: "Connect" }).click();
  await page.getByLabel("Capability").selectOption("echo");
  await runSnippets(page, secret, /completed/);
  await page.getByRole("button", { name: "Copy Agents" }).click();
  const { narthex } = JSON.parse(await page.evaluate(() => navigator.clipboard.readText())).mcpServers;
  const authorization = narthex.headers.Authorization.replace("${NARTHEX_KEY}", secret);
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
  const answer = await fetch(narthex.url, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    body,
  });
  assert.match(await answer.text(), /demo__echo/);
  await close(page);
});

test("keys_with_few_permissions_see_little_and_nothing_breaks", { skip }, async () => {
  for (const [role, screen, text] of [
    ["caller", "access", "Your key has no access to this page."],
    ["caller", "contexts", "No contexts yet."],
    ["caller", "services", "Demonstration"],
    ["viewer", "access/audit", "key.created"],
    ["viewer", "contexts", "slow_count"],
    ["bare", "now", "Your key cannot register services."],
    ["bare", "connect", "word_count"],
  ] as const) {
    const { secret } = await makeKey(own, role, role === "bare" ? ["contexts:read"] : []);
    const page = await open(own);
    await signIn(page, secret);
    await page.goto(`${own.url}/#/${screen}`);
    await page.getByText(text).first().waitFor();
    for (const name of [/^Register/, /^New /, /^Delete/]) {
      assert.equal(
        await page.getByRole("button", { name }).or(page.getByRole("link", { name })).count(),
        0,
        `${role} ${screen}: ${name}`,
      );
    }
    if (role === "bare") await page.getByText("Not live: your key lacks events:read").waitFor();
    await close(page);
  }
});

test("errors_are_shown_at_their_fields", { skip }, async () => {
  const page = await open(gateway);
  await page.getByLabel("API key").fill("nonsense");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("alert").getByText("valid").waitFor();
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/services/new`);
  await page.getByLabel("Name", { exact: true }).fill("X");
  await page.getByLabel("ID", { exact: true }).fill("x");
  await page.getByLabel("URL").fill("ftp://example.com");
  await page.getByLabel("Capability").fill("x");
  await page.getByRole("button", { name: "Register", exact: true }).click();
  await page
    .locator(".field", { has: page.getByLabel("URL") })
    .getByText(/^This .*https/)
    .waitFor();
  assert.equal(await page.getByLabel("URL").getAttribute("aria-invalid"), "true");
  assert.equal(
    await page.evaluate(() => document.activeElement?.getAttribute("placeholder")),
    "https://words.example.com/run",
  );
  await page.goto(`${gateway.url}/#/contexts/ctx_nothing`);
  await page.getByRole("alert").getByText("No such context").waitFor();
  await close(page);
});

test("a_form_for_input_begins_empty", { skip }, async () => {
  const asking = await startService(
    json({
      input_required: {
        message: "Approve the refund?",
        schema: {
          type: "object",
          required: ["decision", "sure"],
          properties: {
            decision: { type: "string", title: "Decision", enum: ["approve", "reject"], default: "approve" },
            sure: { type: "boolean", title: "Are you sure", default: true },
            note: { type: "string", title: "Note", default: "fine by me" },
          },
        },
      },
    }),
  );
  await register(own, "refunds", serviceAt(asking.url, [{ name: "approve_refund", timeout_seconds: 600 }]));
  const { id } = (
    await own.request("POST", "/v1/contexts", {
      body: { capability: "approve_refund" },
      headers: { prefer: "wait=10" },
    })
  ).json;
  const page = await open(own);
  const sent: string[] = [];
  page.on("request", (request) => void (request.url().endsWith("/input") && sent.push(request.postData() ?? "")));
  await signIn(page, own.adminKey);
  await page.goto(`${own.url}/#/contexts/${id}`);
  const choice = page.getByLabel("Decision");
  assert.equal(await choice.locator("option:checked").innerText(), "Choose…");
  assert.equal(await page.getByLabel("Are you sure").locator("option:checked").innerText(), "Choose…");
  assert.equal(await page.getByLabel("Note").inputValue(), "");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("alert").getByText("Not sent. Still needed: Decision, Are you sure.").waitFor();
  await page.locator(".field", { has: choice }).getByText("Choose one.").waitFor();
  await checked(page, "an answer that lacks something");
  assert.deepEqual(sent, []);
  asking.handler = json({ result: "done" });
  await choice.selectOption("reject");
  await page.getByLabel("Are you sure").selectOption("no");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("status").getByText("completed").waitFor();
  assert.deepEqual(
    sent.map((one) => JSON.parse(one)),
    [{ input: { decision: "reject", sure: false } }],
  );
  await close(page);
  await asking.stop();
});

/** Schemas of all kinds. */
const schemas: Record<string, unknown> = {
  none: undefined,
  null: null,
  yes: true,
  empty: {},
  reference: {
    $ref: "#/$defs/order",
    $defs: {
      order: { type: "object", required: ["item"], properties: { item: { $ref: "#/$defs/item" } } },
      item: { type: "object", required: ["sku"], properties: { sku: { type: "string", minLength: 6 } } },
    },
  },
  recursive: {
    $ref: "#/$defs/tree",
    $defs: {
      tree: {
        type: "object",
        required: ["name"],
        properties: { name: { type: "string" }, children: { type: "array", items: { $ref: "#/$defs/tree" } } },
      },
    },
  },
  union: {
    type: "object",
    required: ["to"],
    properties: { to: { oneOf: [{ type: "null" }, { type: "string", format: "email" }] } },
  },
  all: {
    allOf: [
      { type: "object", required: ["a"], properties: { a: { type: "integer", minimum: 3, multipleOf: 2 } } },
      { required: ["b"], properties: { b: { const: "fixed" } } },
    ],
  },
  nullable: {
    type: ["object", "null"],
    properties: { when: { type: ["string", "null"], format: "date-time" } },
    required: ["when"],
  },
  list: { type: "array", minItems: 2, items: { type: "number", exclusiveMinimum: 0, maximum: 1 } },
  word: { type: "string", enum: ["one", "two"] },
  pattern: {
    type: "object",
    properties: { code: { type: "string", pattern: "^[0-9]{8}$" }, count: { type: "integer" } },
  },
  odd: {
    type: "object",
    properties: {
      a: true,
      b: { type: "string", default: null },
      c: { type: "array", items: { type: "string" }, default: ["x"] },
      toString: { type: "boolean" },
    },
  },
};

test("snippets_and_forms_fit_every_schema", { skip }, async () => {
  const taking = await startService(json({ result: "taken" }));
  const capabilities = Object.entries(schemas).map(([name, input_schema]) => ({
    name: `takes_${name}`,
    ...(input_schema !== undefined && { input_schema }),
  }));
  await register(
    own,
    "schemas",
    serviceAt(taking.url, [...capabilities, { name: "takes_nothing", input_schema: false }]),
  );
  const page = await open(own);
  await signIn(page, own.adminKey);
  await page.goto(`${own.url}/#/connect`);
  for (const { name } of [...capabilities, { name: "takes_nothing" }]) {
    await page.getByLabel("Capability").selectOption(name);
    const lines = await page.getByRole("region", { name: "curl" }).innerText();
    const [, body] = lines.match(/-d '(.*)'$/)!;
    assert.equal(JSON.parse(body!).capability, name);
    if (name === "takes_nothing") continue;
    const answer = await own.request("POST", "/v1/contexts", { body: JSON.parse(body!) });
    assert.equal(answer.json.status, "completed", `${name}: ${body} came to ${answer.text}`);
  }
  await page.goto(`${own.url}/#/services/schemas`);
  for (const { name } of [...capabilities, { name: "takes_nothing" }]) {
    const form = page.locator("section.card", { has: page.getByRole("heading", { name: new RegExp(`^${name} `) }) });
    await form.getByText(`Try ${name}`).click();
    assert.ok((await form.locator("input, select, textarea").count()) > 0, name);
  }
  await checked(page, "forms for every schema");
  await close(page);
  await taking.stop();
});

test("an_optional_object_is_left_out_until_something_is_entered", { skip }, async () => {
  const taking = await startService(json({ result: "taken" }));
  const options = {
    type: "object",
    required: ["mode"],
    properties: { mode: { enum: ["fast", "slow"] }, verbose: { type: "boolean", default: false } },
  };
  const hints = { type: "object", properties: { language: { type: "string", default: "en" } } };
  await register(
    own,
    "optional",
    serviceAt(taking.url, [
      { name: "takes_options", input_schema: { type: "object", properties: { options, hints } } },
    ]),
  );
  const page = await open(own);
  const sent: any[] = [];
  page.on(
    "request",
    (request) =>
      void (request.method() === "POST" && request.url().endsWith("/v1/contexts") && sent.push(request.postDataJSON())),
  );
  await signIn(page, own.adminKey);
  const fill = async () => {
    await page.goto(`${own.url}/#/services`);
    await page.goto(`${own.url}/#/services/optional`);
    await page.getByText("Try takes_options").click();
  };
  await fill();
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByRole("status").getByText("completed").waitFor();
  await fill();
  await page.getByLabel("verbose").check();
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByRole("alert").getByText("Not sent. Still needed: mode.").waitFor();
  await page.getByLabel("mode").selectOption("slow");
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByRole("status").getByText("completed").waitFor();
  assert.deepEqual(
    sent.map(({ parameters }) => parameters),
    [{}, { options: { mode: "slow", verbose: true } }],
  );
  await close(page);
  await taking.stop();
});

test("a_context_shows_why_it_has_no_attempts_and_why_an_attempt_failed", { skip }, async () => {
  const failing = await startService(status(500));
  await register(own, "failing", serviceAt(failing.url, [{ name: "fail" }], { retry: { max_attempts: 1 } }));
  let last: any;
  for (let at = 0; at < 30 && last?.error?.code !== "circuit_open"; at += 1) {
    last = (await own.request("POST", "/v1/contexts", { body: { capability: "fail" } })).json;
    if (at === 0) {
      const page = await open(own);
      await signIn(page, own.adminKey);
      await page.goto(`${own.url}/#/contexts/${last.id}`);
      const attempts = page.locator("section", { has: page.getByRole("heading", { name: "Attempts" }) }).last();
      await attempts.getByText(`${last.error.code}: ${last.error.message}`).waitFor();
      await close(page);
    }
  }
  assert.equal(last.error.code, "circuit_open", JSON.stringify(last));
  const page = await open(own);
  await signIn(page, own.adminKey);
  await page.goto(`${own.url}/#/contexts/${last.id}`);
  await page.getByText("None: the context ended before a service was called (circuit_open).").waitFor();
  // The median is the gateway's own count, not that of the lane's few samples.
  await page.goto(`${own.url}/#/services/demo`);
  await page.getByText("p50 / p95 (24 hours)").waitFor();
  await close(page);
  await failing.stop();
});

test("a_screen_without_permission_names_the_roles_that_have_it", { skip }, async () => {
  const { secret } = await makeKey(own, "bare", ["services:read"]);
  const page = await open(own);
  await signIn(page, secret);
  for (const screen of ["now", "contexts"]) {
    await page.goto(`${own.url}/#/${screen}`);
    await page
      .getByText(/^This requires the permission contexts:read, which the built-in roles .*operator.*viewer have\.$/)
      .waitFor();
  }
  await page.goto(`${own.url}/#/access`);
  await page.getByText(/^Your key has no access to this page\. The built-in role viewer can read all of it/).waitFor();
  await close(page);

  // The role operator can see all of it.
  const { secret: operators } = await makeKey(own, "operator");
  const theirs = await open(own);
  await signIn(theirs, operators);
  await theirs.getByText("Live", { exact: true }).waitFor();
  await theirs.getByText(/^Ended since /).waitFor();
  await theirs.getByRole("region", { name: "Ended" }).locator("a.card").first().click();
  await theirs.getByRole("heading", { name: "Timeline" }).waitFor();
  await close(theirs);
});
