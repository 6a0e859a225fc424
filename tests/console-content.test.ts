// What is kept, in the console: the choice in forms, where screens show it, and calls whose content is not kept.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { contextOf, create, ended, eventually, register, serviceAt } from "./support/arrange.ts";
import { checked, close, type ConsolePage, demo, fits, heading, open, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { providerKeys, startModelUpstream } from "./support/model-upstream.ts";
import { echo, gate, json, type Service, startService, status } from "./support/service.ts";

const input_schema = { type: "object", required: ["text"], properties: { text: { type: "string", title: "Text" } } };

let gateway: Gateway;
let service: Service;
let provider: Service;

before(async () => {
  if (skip) return;
  gateway = await startGateway();
  service = await startService(echo);
  provider = await startModelUpstream();
  const capabilities = [
    { name: "private", input_schema, idempotent: true },
    { name: "public", input_schema, content: "full" },
  ];
  const limited = { name: "Discreet", content: "none", retry: { max_attempts: 1 } };
  await register(gateway, "discreet", serviceAt(service.url, capabilities, limited));
  await register(gateway, "mixed", serviceAt(service.url, [{ name: "one", content: "none" }, { name: "two" }]));
  await register(gateway, "demo", demo);
  const transport = { kind: "openai", url: `${provider.url}v1` };
  const credentials = { headers: { Authorization: `Bearer ${providerKeys.openai}` } };
  const common = { type: "llm", credentials, models: [{ id: "small" }] };
  await register(gateway, "gpt", { ...common, name: "Provider", transport });
  const keeping = { ...common, name: "Keeping", transport: { ...transport, content: "full" } };
  await register(gateway, "keeping", { ...keeping, models: [{ id: "kept", upstream: "small-2026-07-23" }] });
  // The narrowest setting counts, whatever the service says.
  const silent = { ...common, name: "Silent", transport: { ...transport, content: "none" }, content: "full" };
  await register(gateway, "silent", { ...silent, models: [{ id: "unkept" }] });
});
after(async () => {
  await Promise.all([gateway, service, provider].map((one) => one?.stop()));
});

async function signedIn(look?: Parameters<typeof open>[1]): Promise<ConsolePage> {
  const page = await open(gateway, look);
  await signIn(page, gateway.adminKey);
  return page;
}

async function goTo(page: Page, hash: string, name: string): Promise<void> {
  await page.goto(`${gateway.url}/#/${hash}`);
  await heading(page, name).waitFor();
}

const card = (page: Page, name: string) =>
  page.locator("section.card", { has: page.getByRole("heading", { name: new RegExp(`^${name} `) }) });

/** The row of a model, or of a route. */
const row = (page: Page, name: string) =>
  page.getByRole("listitem").filter({ has: page.getByText(name, { exact: true }) });

/** The value of a fact; empty if it is not shown. */
const fact = async (page: Page, name: string) =>
  (
    await page
      .locator("dl > div", { has: page.getByText(name, { exact: true }) })
      .locator("dd")
      .allInnerTexts()
  ).join();

const documentOf = async (path: string): Promise<any> => (await gateway.request("GET", path)).json;
const chosen = (page: Page) => page.getByLabel("What is kept").locator("option:checked").innerText();

test("the_form_of_a_service_offers_what_is_kept", { skip }, async () => {
  const page = await signedIn();
  for (const [id, choice, content] of [
    ["everything", undefined, undefined],
    ["nothing", "Nothing", "none"],
  ] as const) {
    await page.goto(`${gateway.url}/#/services`);
    await goTo(page, "services/new", "Register a service");
    await page.getByLabel("Name", { exact: true }).fill(id);
    await page.getByLabel("ID", { exact: true }).fill(id);
    await page.getByLabel("URL").fill(service.url);
    await page.getByLabel("Capability").fill(`keeps_${id}`);
    assert.equal(await chosen(page), "Everything");
    await page
      .getByText(/If it keeps nothing, a call ends with its response: there is no respond-async, idempotency key/)
      .waitFor();
    if (choice) await page.getByLabel("What is kept").selectOption(choice);
    await page.getByRole("button", { name: "Register", exact: true }).click();
    await heading(page, `${id} is registered`).waitFor();
    assert.equal((await documentOf(`/v1/services/${id}`)).content, content);
  }

  // What was chosen can be changed, beside the rest of the document.
  await goTo(page, "services/new?from=nothing", "Edit nothing");
  assert.equal(await chosen(page), "Nothing");
  assert.doesNotMatch(await page.getByLabel("Service document").inputValue(), /"content"/);
  await checked(page, "the form that edits a service");
  await page.getByLabel("What is kept").selectOption("Everything");
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page, "nothing").waitFor();
  assert.equal((await documentOf("/v1/services/nothing")).content, undefined);
  await goTo(page, "services/new?from=everything", "Edit everything");
  await page.getByLabel("What is kept").selectOption("Nothing");
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page, "everything").waitFor();
  const { content, capabilities } = await documentOf("/v1/services/everything");
  assert.deepEqual([content, capabilities.length], ["none", 1]);
  await close(page);
});

test("what_the_gateway_refuses_is_shown_at_the_choice", { skip }, async () => {
  const socket = { transport: { kind: "socket" } };
  await register(gateway, "connected", serviceAt("", [{ name: "pull" }], { name: "Connected", ...socket }));
  const page = await signedIn();
  await goTo(page, "services/new?from=connected", "Edit Connected");
  const choice = page.getByLabel("What is kept");
  await choice.selectOption("Nothing");
  await page.getByRole("button", { name: "Save" }).click();
  await page
    .locator(".field", { has: choice })
    .getByText(/^This cannot be none with transport/)
    .waitFor();
  assert.equal(await choice.getAttribute("aria-invalid"), "true");
  await close(page);
});

test("a_service_shows_what_is_kept_of_each_capability", { skip }, async () => {
  const page = await signedIn();
  await goTo(page, "services/discreet", "Discreet");
  assert.equal(await fact(page, "Content"), "not kept");
  await card(page, "private").getByText("Idempotent. Content not kept. Timeout").waitFor();
  await card(page, "public").getByText("Content kept. Timeout").waitFor();
  await goTo(page, "services/mixed", "A service of the tests");
  await card(page, "one").getByText("Content not kept.").waitFor();
  assert.doesNotMatch(await card(page, "two").innerText(), /Content/);
  assert.equal(await fact(page, "Content"), "");
  await goTo(page, "services/keeping", "Keeping");
  assert.equal(await fact(page, "Content"), "kept for model calls");
  await goTo(page, "services/silent", "Silent");
  assert.equal(await fact(page, "Content"), "kept, except for model calls");
  await close(page);
});

test("a_call_that_is_not_kept_is_run_and_its_result_is_shown_at_once", { skip }, async () => {
  const page = await signedIn();
  const sent: [string, string | undefined][] = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (request.method() === "POST" && pathname !== "/v1/tickets") sent.push([pathname, request.headers().prefer]);
  });
  await goTo(page, "services/discreet", "Discreet");
  const trial = card(page, "private");
  await trial.getByText("Try private").click();
  await trial.getByText(/^The content of this call is not kept, so it cannot run in the background/).waitFor();
  const held = gate(echo);
  service.handler = held.handler;
  await trial.getByLabel("Text").fill("between us");
  await trial.getByRole("button", { name: "Run" }).click();
  await trial.getByText("Waiting for the response…").waitFor();
  held.open();
  await trial.getByRole("region", { name: "Result" }).getByText('"text": "between us"').waitFor();
  await trial.getByText("completed").waitFor();
  assert.deepEqual(sent, [["/v1/contexts", undefined]]);
  await checked(page, "a result that is not kept");

  // Its context does not have it.
  await trial.getByRole("link", { name: "View context" }).click();
  await heading(page, "private").waitFor();
  await page.getByText("This context cannot be replayed: its parameters were not kept.").waitFor();
  await page.getByText(/^Content not kept: /).waitFor();
  assert.doesNotMatch(await page.locator("main").innerText(), /between us/);
  assert.equal(await page.getByRole("button", { name: "Replay" }).count(), 0);
  for (const name of ["Parameters", "Result"]) assert.equal(await page.getByRole("region", { name }).count(), 0);
  await checked(page, "a context whose content is not kept");

  // A capability that keeps them works as before.
  service.handler = echo;
  await goTo(page, "services/discreet", "Discreet");
  await card(page, "public").getByText("Try public").click();
  await card(page, "public").getByLabel("Text").fill("for all");
  await card(page, "public").getByRole("button", { name: "Run" }).click();
  await page.getByRole("region", { name: "Result" }).getByText("for all").waitFor();
  await page.getByRole("button", { name: "Replay" }).waitFor();
  assert.deepEqual(sent.at(-1), ["/v1/contexts", "respond-async"]);
  await close(page);
});

test("failures_are_shown_with_help_that_needs_no_replay", { skip }, async () => {
  const page = await signedIn();
  await goTo(page, "services/discreet", "Discreet");
  const trial = card(page, "private");
  await trial.getByText("Try private").click();
  await trial.getByLabel("Text").fill("between us");
  // A failure is in the response, with the words of the service.
  service.handler = json({ error: { code: "broken", message: "Not between us." } });
  await trial.getByRole("button", { name: "Run" }).click();
  await trial.getByText("upstream_error: Not between us.").waitFor();
  assert.equal(await trial.getByRole("region", { name: "Result" }).count(), 0);

  // A service that wants to continue later is refused, and the context says why.
  service.handler = status(202);
  await trial.getByRole("button", { name: "Run" }).click();
  const refusal = await trial.getByRole("alert").innerText();
  assert.match(refusal, /202/);
  assert.equal(await trial.getByText("Waiting for the response…").count(), 0);
  const [id] = refusal.match(/ctx_\w+/)!;
  await ended(gateway, id);
  await goTo(page, `contexts/${id}`, "private");
  await page.getByText(/^content_not_kept: .*Let the service respond with the result, or keep the content/).waitFor();
  await page.getByText("This context cannot be replayed: its parameters were not kept.").waitFor();
  assert.equal(await page.getByRole("button", { name: "Replay" }).count(), 0);
  await checked(page, "a context that failed with content_not_kept");

  // The help does not advise a replay that there is not.
  await register(gateway, "away", serviceAt("http://127.0.0.1:9/", [{ name: "gone", content: "none" }]));
  const { json: lost } = await create(gateway, { capability: "gone" });
  assert.equal(lost.status, "failed", JSON.stringify(lost));
  await eventually(async () => (await documentOf(`/v1/contexts/${lost.id}`)).status === "failed");
  await goTo(page, `contexts/${lost.id}`, "gone");
  await page.getByText(/^service_unavailable: .*then send the request again\.$/).waitFor();
  service.handler = echo;
  await close(page);
});

test("a_context_is_not_replayed_once_its_capability_keeps_nothing", { skip }, async () => {
  const document = (content: string) => serviceAt(service.url, [{ name: "changes", content }]);
  await register(gateway, "changing", document("full"));
  const { json: context } = await create(gateway, { capability: "changes" });
  assert.equal(context.status, "completed");
  const headers = { "if-match": "*" };
  const changed = await gateway.request("PUT", "/v1/services/changing", { body: document("none"), headers });
  assert.equal(changed.status, 200, changed.text);
  const page = await signedIn();
  await goTo(page, `contexts/${context.id}`, "changes");
  await page.getByRole("region", { name: "Result" }).waitFor();
  await page.getByRole("button", { name: "Replay" }).click();
  await page
    .getByRole("alert")
    .getByText(/^Not replayed: the content of this capability’s calls is no longer/)
    .waitFor();
  await checked(page, "a replay that is refused");
  await close(page);
});

test("models_show_that_their_calls_are_kept", { skip }, async () => {
  const page = await signedIn();
  await goTo(page, "models?tab=routes", "Models");
  await page.getByRole("button", { name: "New route" }).click();
  await page.getByLabel("Name").fill("team/kept");
  await page.getByLabel("Targets").fill("gpt/small");
  const choice = page.getByLabel("What is kept");
  assert.deepEqual(await choice.locator("option").allInnerTexts(), ["What the targets keep", "Nothing", "Everything"]);
  await choice.selectOption("Everything");
  await checked(page, "the form of a route");
  await page.getByRole("button", { name: "Create route" }).click();
  await row(page, "team/kept").getByText("gpt/small · content kept").waitFor();
  assert.equal((await documentOf("/v1/model-routes/team/kept")).content, "full");
  await page.getByRole("button", { name: "New route" }).click();
  await page.getByLabel("Name").fill("team/plain");
  await page.getByLabel("Targets").fill("keeping/kept\nsilent/unkept");
  await page.getByRole("button", { name: "Create route" }).click();
  await row(page, "team/plain").waitFor();
  assert.doesNotMatch(await row(page, "team/plain").innerText(), /content kept/);
  assert.equal((await documentOf("/v1/model-routes/team/plain")).content, undefined);

  // What the screens say is what the gateway does.
  await goTo(page, "models", "Models");
  await row(page, "team/kept").waitFor();
  for (const [name, isKept] of Object.entries({
    "team/kept": true,
    "team/plain": false,
    kept: true,
    unkept: false,
    small: false,
    demo: false,
  })) {
    await goTo(page, "models", "Models");
    await row(page, name).waitFor();
    assert.equal(/content kept/.test(await row(page, name).innerText()), isKept, name);
    await row(page, name).getByRole("link").click();
    await heading(page, name).waitFor();
    await page.getByText(isKept ? "The gateway keeps it." : "The gateway does not keep it.").waitFor();
    assert.equal(await page.getByText(/^Content kept: /).count(), isKept ? 1 : 0, name);
    const body = { model: name, messages: [{ role: "user", content: "Hi" }] };
    const { headers } = await gateway.request("POST", "/v1/chat/completions", { body });
    const { content } = await contextOf(gateway, headers);
    assert.equal(content !== "none", isKept, name);
  }
  await goTo(page, "models/team%2Fkept", "team/kept");
  await checked(page, "a model whose calls are kept");
  await close(page);
});

test("a_provider_is_registered_with_what_is_kept", { skip }, async () => {
  const page = await signedIn();
  await goTo(page, "services/new?for=models", "Register a provider of models");
  assert.equal(await chosen(page), "Nothing");
  await page.getByLabel("Name", { exact: true }).fill("Archive");
  await page.getByLabel("ID", { exact: true }).fill("archive");
  await page.getByLabel("URL").first().fill(`${provider.url}v1`);
  await page.getByLabel("What is kept").selectOption("Everything");
  await page.getByRole("button", { name: "Register provider" }).click();
  await heading(page, "Archive").waitFor();
  assert.equal((await documentOf("/v1/services/archive")).transport.content, "full");
  assert.equal(await fact(page, "Content"), "kept for model calls");
  // What the form of a service changes is the service's own setting.
  await goTo(page, "services/new?from=archive", "Edit Archive");
  assert.equal(await chosen(page), "Everything but model calls");
  await close(page);
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`what_is_kept_fits_every_width_in_the_${colorScheme}`, { skip, timeout: 600_000 }, async () => {
    service.handler = echo;
    const { json: context } = await create(gateway, { capability: "private", parameters: { text: "x" } });
    service.handler = status(202);
    const { json: refusal } = await create(gateway, { capability: "private", parameters: { text: "x" } });
    const [refused] = refusal.detail.match(/ctx_\w+/);
    await ended(gateway, refused);
    service.handler = echo;
    const page = await signedIn({ colorScheme, reducedMotion: "reduce" });
    const screens: Record<string, () => Promise<unknown>> = {
      "services/new": () => page.getByLabel("What is kept").waitFor(),
      "services/new?from=discreet": () => page.getByLabel("What is kept").waitFor(),
      "services/new?from=keeping": () => page.getByLabel("What is kept").waitFor(),
      "services/new?for=models": () => page.getByLabel("What is kept").waitFor(),
      "models?tab=routes": async () => {
        await page.getByRole("button", { name: "New route" }).click();
        await page.getByLabel("What is kept").waitFor();
      },
      models: () => row(page, "kept").waitFor(),
      "models/kept": () => page.getByText(/^Content kept: /).waitFor(),
      "services/keeping": () => page.getByText("kept for model calls").waitFor(),
      [`contexts/${context.id}`]: () => page.getByText(/^Content not kept: /).waitFor(),
      [`contexts/${refused}`]: () => page.getByText(/^content_not_kept: .*Let the service/).waitFor(),
      "services/discreet": async () => {
        await card(page, "private").getByText("Try private").click();
        await card(page, "private").getByLabel("Text").fill("between us");
        await card(page, "private").getByRole("button", { name: "Run" }).click();
        await card(page, "private").getByRole("region", { name: "Result" }).waitFor();
      },
    };
    for (const [screen, ready] of Object.entries(screens)) {
      await page.setViewportSize({ width: 1200, height: 820 });
      await page.goto(`${gateway.url}/#/${screen}`);
      await ready();
      await checked(page, `${screen}, ${colorScheme}`);
      for (const width of [320, 360, 768, 801, 950, 1280]) {
        await page.setViewportSize({ width, height: 740 });
        await fits(page, screen);
      }
      await page.setViewportSize({ width: 360, height: 740 });
      await page.setViewportSize({ width: 320, height: 740 });
      await checked(page, `${screen} at 320 px, ${colorScheme}`);
    }
    await close(page);
  });
}
