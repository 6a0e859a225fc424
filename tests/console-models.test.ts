// Models in the console: the list of those that a key may use, routes, providers, and what a context of a model shows.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { contextOf, makeKey, register, serviceAt } from "./support/arrange.ts";
import { checked, close, demo, fits, heading, open, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { providerKeys, startModelUpstream } from "./support/model-upstream.ts";
import type { Service } from "./support/service.ts";

const longName = "accounts/a-provider/models/a-model-with-a-name-of-many-letters-405b-instruct";
const prices = {
  currency: "USD",
  input: "0.25",
  cached_input: "0.025",
  output: "2.00",
  per_use: { web_search: "0.01" },
};
const small = {
  id: "small",
  upstream: "small-2026-07-23",
  context_window: 400_000,
  max_output_tokens: 128_000,
  prices,
};

let gateway: Gateway;
let provider: Service;

before(async () => {
  if (skip) return;
  gateway = await startGateway();
  provider = await startModelUpstream();
  const transport = { kind: "openai", url: `${provider.url}v1` };
  const credentials = { headers: { Authorization: `Bearer ${providerKeys.openai}` } };
  await register(gateway, "demo", demo);
  await register(gateway, "gpt", {
    name: "Provider",
    type: "llm",
    transport,
    credentials,
    models: [small, { id: "*" }],
  });
  await register(gateway, "twin", { name: "Twin", type: "llm", transport, credentials, models: [{ id: longName }] });
  await putRoute("team/steady", [{ service: "gpt", model: "small" }]);
});
after(async () => {
  await gateway?.stop();
  await provider?.stop();
});

async function putRoute(name: string, targets: object[]): Promise<void> {
  const put = await gateway.request("PUT", `/v1/model-routes/${name}`, {
    body: { description: "For tests.", targets },
  });
  assert.equal(put.status, 201, put.text);
}

/** The row of a model, or of a route. */
const row = (page: Page, name: string) =>
  page.getByRole("listitem").filter({ has: page.getByText(name, { exact: true }) });

async function goTo(page: Page, hash: string, name: string): Promise<void> {
  await page.goto(`${gateway.url}/#/${hash}`);
  await heading(page, name).waitFor();
}

test("models_are_listed_with_what_serves_them", { skip }, async () => {
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await row(page, "small").waitFor();
  const facts = "400,000 tokens of context, 128,000 of output · 0.25 in, 2.00 out, USD per million tokens";
  assert.deepEqual(await row(page, "small").locator("span").allInnerTexts(), ["gpt", facts]);
  assert.deepEqual(await row(page, "team/steady").locator("span").allInnerTexts(), ["route to gpt/small", facts]);
  await row(page, longName).waitFor();
  await checked(page, "models");

  // A name that no list has is reached by its service.
  await page.getByLabel("Another name").fill("gpt/vendor-new");
  await page.getByRole("button", { name: "Open" }).click();
  await heading(page, "gpt/vendor-new").waitFor();
  await page.getByRole("link", { name: "gpt", exact: true }).click();
  await heading(page, "Provider").waitFor();
  const models = page.locator("section", { has: page.getByRole("heading", { name: "Models", exact: true }) }).last();
  await models.getByText("small-2026-07-23").waitFor();
  await models.getByText("All prices").click();
  await models.getByRole("region", { name: "Prices of small" }).getByText('"web_search": "0.01"').waitFor();
  await checked(page, "a provider");
  await models.getByRole("link", { name: "small" }).click();
  await heading(page, "gpt/small").waitFor();
  await close(page);
});

test("a_model_that_is_registered_appears_in_the_list", { skip }, async () => {
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await goTo(page, "models", "Models");
  await row(page, "small").waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  const later = { name: "Later", type: "llm", transport: { kind: "anthropic", url: "http://127.0.0.1:9" } };
  await register(gateway, "later", { ...later, models: [{ id: "haiku" }] });
  await row(page, "haiku").waitFor();
  await gateway.request("DELETE", "/v1/services/later", { headers: { "if-match": "*" } });
  await row(page, "haiku").waitFor({ state: "detached" });
  await close(page);
});

test("a_route_is_created_edited_and_deleted", { skip }, async () => {
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await goTo(page, "models", "Models");
  await page.getByRole("link", { name: "routes" }).click();
  await page.getByRole("button", { name: "New route" }).click();
  await page.getByLabel("Name").fill("team/fast");
  const targets = page.getByLabel("Targets");
  await targets.fill("gpt/small, weight 3\nno target");
  await page.getByRole("button", { name: "Create route" }).click();
  await page.getByText("Entry 2: This must be a service and its model, such as").waitFor();
  assert.equal(await targets.getAttribute("aria-invalid"), "true");
  await checked(page, "the form of a route, with a fault");

  // What the gateway refuses is shown at the same field.
  await targets.fill("gpt/small, weight 3\nnowhere/small");
  await page.getByRole("button", { name: "Create route" }).click();
  await page.getByText("Entry 2: This must be the id of a service: there is no nowhere.").waitFor();
  await page.getByLabel("Name").fill("team fast");
  await page.getByRole("button", { name: "Create route" }).click();
  await page.getByText(/^This must be 1 to 128 printable ASCII characters/).waitFor();
  assert.equal(await page.getByLabel("Name").getAttribute("aria-invalid"), "true");
  await page.getByLabel("Name").fill("team/fast");
  await targets.fill("gpt/small, weight 3\ndemo/demo\ntwin/" + longName + ", tier 1");
  await page.getByLabel("Fallback on").fill("context_length");
  await page.getByRole("button", { name: "Create route" }).click();
  await row(page, "team/fast").getByText(`gpt/small (75%), demo/demo (25%); then twin/${longName}`).waitFor();
  const { json: made } = await gateway.request("GET", "/v1/model-routes/team/fast");
  assert.deepEqual(made.targets, [
    { service: "gpt", model: "small", tier: 0, weight: 3 },
    { service: "demo", model: "demo", tier: 0, weight: 1 },
    { service: "twin", model: longName, tier: 1, weight: 1 },
  ]);
  assert.deepEqual(made.fallback_on, ["context_length"]);

  await row(page, "team/fast").getByRole("link", { name: "Open" }).click();
  await heading(page, "team/fast").waitFor();
  await row(page, "gpt/small").getByText("75% of conversations").waitFor();
  await row(page, `twin/${longName}`).getByText("fallback, tier 1").waitFor();
  await checked(page, "a route");
  await page.getByRole("link", { name: "Edit route" }).click();
  await page.locator(".marked").getByRole("button", { name: "Edit" }).click();
  assert.equal(await targets.inputValue(), `gpt/small, weight 3\ndemo/demo\ntwin/${longName}, tier 1`);
  await targets.fill("demo/demo");
  await page.getByRole("button", { name: "Save" }).click();
  await row(page, "team/fast").getByText("demo/demo", { exact: true }).waitFor();
  const { json: saved } = await gateway.request("GET", "/v1/model-routes/team/fast");
  assert.deepEqual([saved.targets.length, saved.fallback_on], [1, ["context_length"]]);

  await row(page, "team/fast").getByRole("button", { name: "Delete" }).click();
  await row(page, "team/fast").waitFor({ state: "detached" });
  assert.equal((await gateway.request("GET", "/v1/model-routes/team/fast")).status, 404);
  await close(page);
});

test("a_name_may_have_any_characters", { skip }, async () => {
  const name = "odd/100%?a=1#b&'<c>";
  await putRoute(encodeURIComponent(name), [{ service: "demo", model: "demo" }]);
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await goTo(page, "models", "Models");
  await row(page, name).getByRole("link").click();
  await heading(page, name).waitFor();
  await page.getByLabel("Message").fill("Hi");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("You wrote: Hi").waitFor();
  await page.getByRole("link", { name: "Edit route" }).click();
  await page.locator(".marked").getByRole("button", { name: "Delete" }).click();
  await page.locator(".marked").waitFor({ state: "detached" });
  assert.equal((await gateway.request("GET", "/v1/model-routes")).json.data.length, 1);
  await close(page);
});

test("keys_see_what_their_permissions_allow", { skip }, async () => {
  // A viewer reads routes, and may neither change them nor use a model.
  const { secret: viewer } = await makeKey(gateway, "viewer");
  const viewing = await open(gateway);
  await signIn(viewing, viewer);
  await goTo(viewing, "models?tab=routes", "Models");
  await row(viewing, "team/steady").getByRole("link", { name: "Open" }).waitFor();
  for (const name of ["New route", "Edit", "Delete"])
    assert.equal(await viewing.getByRole("button", { name }).count(), 0, name);
  await goTo(viewing, "models", "Models");
  await viewing.getByText(/^Your key may not use any model\..* caller and operator have the latter\.$/).waitFor();
  assert.equal(await viewing.getByLabel("Another name").count(), 0);
  await checked(viewing, "models without a permission");
  await close(viewing);

  // A caller uses models, and does not read routes.
  const { secret: caller } = await makeKey(gateway, "caller");
  const calling = await open(gateway);
  await signIn(calling, caller);
  await goTo(calling, "models?tab=routes", "Models");
  await row(calling, "team/steady").waitFor();
  assert.deepEqual(await row(calling, "team/steady").locator("span").allInnerTexts(), ["a route"]);
  assert.equal(await calling.getByRole("link", { name: "routes" }).count(), 0);
  await row(calling, "team/steady").getByRole("link").click();
  await heading(calling, "team/steady").waitFor();
  assert.equal(await calling.getByRole("link", { name: "Edit route" }).count(), 0);
  await close(calling);

  // Other keys see the models that they may use, by their services, and why there are none.
  for (const [permission, text] of [
    ["models:use:smal*", "gpt"],
    [
      "models:use:none-of-them",
      "There are models, but your key may use only those that it names: models:use:none-of-them.",
    ],
  ] as const) {
    const isOffered = permission.endsWith("*");
    const { secret } = await makeKey(gateway, "bare", [
      permission,
      "contexts:read",
      ...(isOffered ? [] : ["models:read"]),
    ]);
    const page = await open(gateway);
    await signIn(page, secret);
    await goTo(page, "models", "Models");
    await page.getByText(text, { exact: true }).waitFor();
    assert.equal(await page.locator(".models > li").count(), isOffered ? 1 : 0);
    await checked(page, permission);
    await close(page);
  }
});

test("without_models_the_screen_says_how_to_get_one", { skip }, async () => {
  const empty = await startGateway();
  const page = await open(empty);
  await signIn(page, empty.adminKey);
  await page.getByRole("link", { name: "Models", exact: true }).click();
  await page.getByRole("heading", { name: "No models yet" }).waitFor();
  await page.getByRole("button", { name: "Start the demonstration" }).waitFor();
  await checked(page, "no models");
  // What appears elsewhere does not take the focus away.
  const next = page.getByRole("link", { name: "Register a provider" });
  await next.focus();
  for (const id of ["one", "two"]) {
    // The second time, the screen has been redrawn after the first.
    const asked = page.waitForResponse((response) => response.url().endsWith("/v1/models"));
    await register(empty, id, serviceAt("http://127.0.0.1:9/"));
    await asked;
  }
  assert.equal(await next.evaluate((one) => one === document.activeElement), true);
  await next.click();
  await heading(page, "Register a provider of models").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("A provider");
  await page.getByLabel("ID", { exact: true }).fill("provider");
  await page.getByLabel("URL").first().fill("ftp://example.com");
  await page.getByLabel("API key").fill(providerKeys.openai);
  await page.getByLabel("Models").fill("small\n*");
  await page.getByRole("button", { name: "Register provider" }).click();
  await page.getByText(/^This .*https/).waitFor();
  await page.getByText("More members").click();
  await page.getByRole("region", { name: "A provider" }).getByText('"context_window": 400000').waitFor();
  await checked(page, "the form of a provider");
  await page.getByLabel("URL").first().fill(`${provider.url}v1`);
  await page.getByRole("button", { name: "Register provider" }).click();
  // A provider has no use for the secret by which services verify calls.
  await heading(page, "A provider").waitFor();
  const { json } = await empty.request("GET", "/v1/services/provider");
  assert.deepEqual(json.models, [{ id: "small" }, { id: "*" }]);
  assert.deepEqual(json.transport, { kind: "openai", url: `${provider.url}v1` });
  const body = { model: "small", messages: [{ role: "user", content: "Hi" }] };
  assert.equal((await empty.request("POST", "/v1/chat/completions", { body })).status, 200);

  // The other way is the demonstration.
  await empty.request("DELETE", "/v1/services/provider", { headers: { "if-match": "*" } });
  await page.goto(`${empty.url}/#/models`);
  await page.getByRole("button", { name: "Start the demonstration" }).click();
  await heading(page, "demo").waitFor();
  await page.getByLabel("Message").waitFor();
  await close(page);
  await empty.stop();
});

test("a_context_shows_its_model_its_tokens_and_that_its_content_is_not_kept", { skip }, async () => {
  const body = { model: "team/steady", messages: [{ role: "user", content: "Hi" }] };
  const { headers } = await gateway.request("POST", "/v1/chat/completions", { body });
  const { id, cost } = await contextOf(gateway, headers);
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await goTo(page, "contexts", "Contexts");
  await page.locator(`.rows a[href$="${id}"]`).getByText("gpt · team/steady").click();
  await page.getByText("1,019 in (1,000 cached), 110 out (64 reasoning)", { exact: true }).waitFor();
  await page.getByText(`${cost.amount} USD`, { exact: true }).waitFor();
  await page.getByText("Content not kept: the gateway does not store").waitFor();
  assert.equal(await page.getByRole("button", { name: "Replay" }).count(), 0);
  assert.equal(await page.getByRole("region", { name: "Parameters" }).count(), 0);
  await checked(page, "a context of a model");
  await page.getByRole("link", { name: "team/steady" }).click();
  await heading(page, "team/steady").waitFor();

  // A context that was created as one is kept as a whole, and counted as well.
  const parameters = { model: "small", messages: body.messages };
  const kept = await gateway.request("POST", "/v1/contexts", {
    body: { capability: "chat", service: "gpt", parameters },
  });
  await goTo(page, `contexts/${kept.json.id}`, "chat");
  await page.getByRole("region", { name: "Parameters" }).getByText('"model": "small"').waitFor();
  await page.getByText("1,019 in (1,000 cached), 110 out (64 reasoning)", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Replay" }).waitFor();
  await close(page);
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`every_screen_of_models_fits_every_width_in_the_${colorScheme}`, { skip, timeout: 600_000 }, async () => {
    const page = await open(gateway, { colorScheme, reducedMotion: "reduce" });
    await signIn(page, gateway.adminKey);
    const screens: Record<string, () => Promise<unknown>> = {
      models: () => row(page, longName).waitFor(),
      "models?tab=routes": async () => {
        await page.getByRole("button", { name: "New route" }).click();
        await page.getByLabel("Targets").waitFor();
      },
      [`models/${encodeURIComponent(longName)}`]: () => page.getByLabel("Message").waitFor(),
      "models/team%2Fsteady": () => page.getByRole("link", { name: "Edit route" }).waitFor(),
      "services/twin": () => row(page, longName).waitFor(),
      "services/new?for=models": () => page.getByLabel("API key").waitFor(),
    };
    for (const [screen, ready] of Object.entries(screens)) {
      await page.setViewportSize({ width: 1200, height: 820 });
      await page.goto(`${gateway.url}/#/${screen}`);
      await ready();
      await checked(page, `${screen}, ${colorScheme}`);
      for (const width of [320, 360, 390, 768, 801, 950, 1280]) {
        await page.setViewportSize({ width, height: 740 });
        await fits(page, screen);
      }
      await page.setViewportSize({ width: 320, height: 740 });
      await checked(page, `${screen} at 320 px, ${colorScheme}`);
    }
    await close(page);
  });
}
