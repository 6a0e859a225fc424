// Signing in to the console with OAuth, links between screens, going back, lists with a filter, and editing.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { accepted, eventually, makeKey, register, serviceAt } from "./support/arrange.ts";
import { checked, close, countWords, demo, heading, open, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { startService } from "./support/service.ts";

let gateway: Gateway;

before(async () => {
  if (skip) return;
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  await register(gateway, "demo", demo);
});
after(() => gateway?.stop());

test("people_sign_in_with_oauth_and_stay_signed_in_for_the_tab", { skip }, async () => {
  const page = await open(gateway);
  await page.getByLabel("Keep me signed in").check();
  await page.getByRole("button", { name: "Sign in with OAuth" }).click();
  await page.getByRole("heading", { name: "The console of this gateway asks to act for you" }).waitFor();
  await page.locator("input[name=api_key]").fill(gateway.adminKey);
  await page.getByRole("button", { name: "Allow" }).click();
  await heading(page, "Now").waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  assert.doesNotMatch(page.url(), /code=/);
  await page.reload();
  await heading(page, "Now").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await page.reload();
  await page.getByLabel("API key").waitFor();
  await close(page);
});

test("grants_are_listed_and_revoked_below_the_size_of_the_configuration", { skip }, async () => {
  const person = await open(gateway);
  await person.getByRole("button", { name: "Sign in with OAuth" }).click();
  await person.locator("input[name=api_key]").fill(gateway.adminKey);
  await person.getByRole("button", { name: "Allow" }).click();
  await heading(person, "Now").waitFor();
  await close(person);
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/access/grants`);
  const grants = page.getByRole("listitem").filter({ hasText: "key:admin" });
  await grants.first().waitFor();
  await page.getByText(/^Configuration: \d+\.\d MiB of 128\.0 MiB; its index: \d+\.\d MiB of 12\.0 MiB$/).waitFor();
  const { version } = (await gateway.request("GET", "/health")).json;
  await page.getByText(`Gateway: version ${version}`).waitFor();
  await checked(page, "grants");
  const before = await grants.count();
  await grants.first().getByRole("button", { name: "Revoke" }).click();
  await page.waitForFunction(
    (count) =>
      [...document.querySelectorAll(".rows > li")].filter((one) => one.textContent?.includes("key:admin")).length <
      count,
    before,
  );
  await close(page);
});

test("a_link_to_a_screen_survives_signing_in_with_oauth", { skip }, async () => {
  const { id } = await accepted(gateway, { capability: "echo", parameters: { text: "linked" } });
  const page = await open(gateway);
  await page.goto(`${gateway.url}/#/contexts/${id}`);
  await page.getByRole("button", { name: "Sign in with OAuth" }).click();
  await page.locator("input[name=api_key]").fill(gateway.adminKey);
  await page.getByRole("button", { name: "Allow" }).click();
  await page.getByRole("heading", { name: "Timeline" }).waitFor();
  assert.equal(page.url(), `${gateway.url}/#/contexts/${id}`);
  await close(page);

  const denied = await open(gateway);
  await denied.goto(`${gateway.url}/#/services/demo`);
  await denied.getByRole("button", { name: "Sign in with OAuth" }).click();
  await denied.locator("input[name=api_key]").fill(gateway.adminKey);
  await denied.getByRole("button", { name: "Deny" }).click();
  await denied.getByRole("alert").getByText("You denied the request.").waitFor();
  await signIn(denied, gateway.adminKey, "Demonstration");
  await close(denied);
});

test("signing_in_requests_nothing_that_does_not_exist", { skip }, async () => {
  const plain = await startGateway({ vars: { DEMO: "false" } });
  const missing: string[] = [];
  const page = await open(plain);
  page.on(
    "response",
    (response) => void (response.status() >= 400 && missing.push(`${response.status()} ${response.url()}`)),
  );
  await page.reload();
  await page.getByLabel("API key").waitFor();
  await signIn(page, plain.adminKey);
  await page.getByRole("heading", { name: "Nothing here yet" }).waitFor();
  await page.waitForLoadState("networkidle");
  assert.equal(await page.getByRole("button", { name: "Sign in with OAuth" }).count(), 0);
  assert.deepEqual(missing, []);
  assert.ok(!plain.logs.some((line) => line.includes("oauth-authorization-server")));
  // The clients' page states that they are of no use without OAuth.
  await page.goto(`${plain.url}/#/access/clients`);
  await page.getByText(/^OAuth is off in this deployment/).waitFor();
  await close(page);
  await plain.stop();
});

test("going_back_restores_the_filter_and_the_position", { skip }, async () => {
  for (let at = 0; at < 70; at += 10) {
    await Promise.all(
      Array.from({ length: 10 }, () => accepted(gateway, { capability: "echo", parameters: { text: "row" } })),
    );
  }
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/contexts?capability=echo`);
  const rows = page.locator(".rows a.card");
  await page.getByRole("button", { name: "Load more" }).click();
  await rows.nth(60).waitFor();
  const href = await rows.nth(60).getAttribute("href");
  await rows.nth(60).scrollIntoViewIfNeeded();
  const place = await page.evaluate(() => scrollY);
  assert.ok(place > 1000, String(place));
  for (const back of [() => page.goBack(), () => page.getByRole("link", { name: "← Contexts" }).click()]) {
    await page.locator(`.rows a[href="${href}"]`).click();
    await page.getByRole("heading", { name: "Timeline" }).waitFor();
    await back();
    await heading(page, "Contexts").waitFor();
    await page.locator(`.rows a[href="${href}"]`).waitFor();
    assert.match(page.url(), /#\/contexts\?capability=echo$/);
    await page.waitForFunction((y) => Math.abs(scrollY - y) < 2, place);
  }
  // With the keyboard, the focus returns to the same row, too.
  await page.locator(`.rows a[href="${href}"]`).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Timeline" }).waitFor();
  await page.goBack();
  await page.waitForFunction((one) => document.activeElement?.getAttribute("href") === one, href);
  await close(page);
});

test("owners_and_actors_have_names_that_link_to_their_keys", { skip }, async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { id: made } = await accepted(gateway, { capability: "echo", parameters: { text: "x" } }, { key: secret });
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.locator("#account").getByText("ADMIN_KEY").waitFor();
  await page.goto(`${gateway.url}/#/contexts/${made}`);
  await page.getByRole("link", { name: "a caller" }).click();
  await page.locator(".marked", { hasText: "a caller" }).getByText("used in the last hour").waitFor();
  assert.match(page.url(), new RegExp(`#/access/keys\\?show=${id}$`));
  const theirs = await open(gateway);
  await signIn(theirs, secret);
  await theirs.locator("#account").getByText("a caller").waitFor();
  await close(theirs);

  // The audit log shows actor, address and request, and only entries that match the search.
  const other = page.locator(".rows").getByText("service.created").first();
  await page.getByRole("link", { name: "audit" }).click();
  await other.waitFor();
  await page.getByLabel("Action").fill("key.*");
  await page.getByRole("button", { name: "Search" }).click();
  // Until the matching entries have arrived, the page shows all of them.
  await other.waitFor({ state: "detached" });
  const entry = page.getByRole("listitem").filter({ hasText: `keys/${id}` });
  await entry.getByText("ADMIN_KEY").waitFor();
  await entry.getByText(/^req_/).waitFor();
  await entry.getByText(/^from /).waitFor();
  assert.match(page.url(), /action=key\.\*/);
  await page.getByLabel("After").fill("tomorrow");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText(/^This must be a date such as/).waitFor();
  await checked(page, "the audit log with a fault");
  await close(page);
});

const MADE = Date.parse("2026-01-01T00:00:00Z");
/** A context as it is listed, created a second after the previous one. */
const contextAt = (at: number, status: string) => {
  const created_at = new Date(MADE + at * 1000).toISOString();
  return {
    id: `ctx_${at}`,
    capability: "echo",
    service: "demo",
    status,
    created_at,
    updated_at: created_at,
    execution_time_ms: null,
    run_at: null,
  };
};

/** Serves the list of contexts from `all`, by status and in pages; returns the requested URLs. */
async function listing(page: Page, all: ReturnType<typeof contextAt>[]): Promise<URL[]> {
  const asked: URL[] = [];
  await page.route("**/v1/contexts?*", async (route) => {
    const url = new URL(route.request().url());
    asked.push(url);
    const [status, limit, from] = ["status", "limit", "cursor"].map((name) => url.searchParams.get(name));
    const fitting = all
      .filter((one) => !status || one.status === status)
      .sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    const end = Number(from) + Number(limit);
    await route.fulfill({
      json: { data: fitting.slice(Number(from), end), next_cursor: end < fitting.length ? String(end) : null },
    });
  });
  return asked;
}

/** Stands in for the event stream; returns a function that sends an event of a context. */
async function feeding(page: Page): Promise<(subject: string, status: string) => void> {
  let send = (_message: string): void => {};
  await page.routeWebSocket(/\/v1\/events/, (socket) => {
    socket.onMessage((message) => void (message === "ping" && socket.send("pong")));
    send = (message) => socket.send(message);
  });
  let sequence = 0;
  return (subject, status) =>
    send(
      JSON.stringify({
        type: status === "queued" ? "context.created" : `context.${status}`,
        subject,
        data: { status },
        time: new Date().toISOString(),
        sequence: String((sequence += 1)).padStart(20, "0"),
      }),
    );
}

test("contexts_that_leave_a_filtered_list_without_an_event_are_dropped", { skip }, async () => {
  const { secret } = await makeKey(gateway, "bare", ["contexts:read", "contexts:read:*"]);
  const page = await open(gateway);
  const all = [1, 2, 3].map((at) => contextAt(at, "executing"));
  await listing(page, all);
  await signIn(page, secret);
  await page.goto(`${gateway.url}/#/contexts?status=executing`);
  const rows = page.locator(".rows a.card");
  await rows.nth(2).waitFor();
  await rows.nth(0).hover();
  await page.mouse.move(5, 5);
  all[0]!.status = "completed";
  await eventually(async () => (await rows.count()) === 2);
  // A row that holds still keeps its place, but not its outdated status.
  const held = page.locator('.rows a[href$="ctx_2"]');
  const box = (await held.boundingBox())!;
  await page.mouse.move(box.x + 20, box.y + 10);
  await page.mouse.move(box.x + 30, box.y + 12);
  all[1]!.status = "completed";
  await held.getByText("no longer executing").waitFor();
  await page.mouse.move(5, 5);
  await eventually(async () => (await rows.count()) === 1);
  await close(page);
});

test("older_contexts_stay_in_a_filtered_list_however_many_pass_through_it", { skip }, async () => {
  const page = await open(gateway);
  const all = Array.from({ length: 60 }, (_, at) => contextAt(at, "queued"));
  const asked = await listing(page, all);
  const event = await feeding(page);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/contexts?status=queued`);
  const rows = page.locator(".rows a.card");
  await rows.nth(49).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  const pass = async (count: number) => {
    const more = Array.from({ length: count }, () => all[all.push(contextAt(all.length, "queued")) - 1]!);
    for (const { id } of more) event(id, "queued");
    await page.locator(`.rows a[href$="${more.at(-1)!.id}"]`).waitFor();
    for (const one of more) one.status = "executing";
    const before = asked.length;
    for (const { id } of more) event(id, "executing");
    await eventually(async () => asked.length > before);
    await page.locator(`.rows a[href$="${more.at(-1)!.id}"]`).waitFor({ state: "detached" });
  };
  for (let round = 0; round < 4; round += 1) await pass(140);
  // At this moment, the list may be being redrawn. It ends at a page, unless the page was slow and has read them all.
  await eventually(async () => (await rows.count()) >= 50);
  if ((await rows.count()) < 60) await page.getByRole("button", { name: "Load more" }).click();
  await rows.nth(59).waitFor();
  await page.mouse.move(5, 5);
  await page.evaluate(() => scrollTo(0, 0));
  // The second one has arrived when the list has been redrawn without the first.
  for (let round = 0; round < 2; round += 1) await pass(1);
  assert.equal(await rows.count(), 60);
  await close(page);
});

test("older_contexts_are_listed_when_a_whole_page_of_newer_ones_has_left_the_list", { skip }, async () => {
  const page = await open(gateway);
  const all = Array.from({ length: 60 }, (_, at) => contextAt(at, "queued"));
  await listing(page, all);
  const event = await feeding(page);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/contexts?status=queued`);
  const rows = page.locator(".rows a.card");
  await rows.nth(49).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  await page.mouse.move(5, 5);
  // The page hears of the last one only, and its next list does not reach back to those it knows.
  const more = Array.from({ length: 120 }, () => all[all.push(contextAt(all.length, "queued")) - 1]!);
  event(more.at(-1)!.id, "queued");
  await page.locator(`.rows a[href$="${more.at(-2)!.id}"]`).waitFor();
  for (const one of more) one.status = "executing";
  for (const { id } of more) event(id, "executing");
  await page.locator(`.rows a[href$="${all[59]!.id}"]`).waitFor();
  assert.ok((await rows.count()) >= 50);
  await close(page);
});

test("an_edited_service_keeps_its_secrets", { skip }, async () => {
  const words = await startService(countWords);
  const kept = serviceAt(words.url, [{ name: "kept" }], {
    credentials: { header: "X-Key", value: "a secret of the service" },
    tags: ["old"],
  });
  await register(gateway, "kept", kept);
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/services/kept`);
  await page.getByRole("link", { name: "Edit" }).click();
  const field = page.getByLabel("Service document");
  const { tags: _, ...shown } = JSON.parse(await field.inputValue());
  await field.fill(JSON.stringify({ ...shown, name: "Changed" }));
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page, "Changed").waitFor();
  const changed = (await gateway.request("GET", "/v1/services/kept")).json;
  assert.deepEqual([changed.name, changed.tags], ["Changed", []]);
  const calls = words.calls.length;
  await gateway.request("POST", "/v1/contexts", { body: { capability: "kept", parameters: { text: "x" } } });
  assert.equal((await words.call(calls)).headers["x-key"], "a secret of the service");

  // The button that was pressed keeps the focus when the screen is redrawn.
  await page.getByRole("button", { name: "Check now" }).click();
  await page.getByText(/^(Healthy: responded in|Health check failed)/).waitFor();
  await eventually(() => page.evaluate(() => document.activeElement?.textContent === "Check now"));
  await page.getByRole("button", { name: "Drain" }).click();
  await page.getByRole("status").getByText("draining").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Drain" }).waitFor();
  await close(page);
  await words.stop();
});

test("an_issuer_is_created_without_writing_json", { skip }, async () => {
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/access/issuers`);
  await page.getByRole("button", { name: "New issuer" }).click();
  for (const [label, text] of [
    ["Issuer", "https://id.example.com"],
    ["Audience", "narthex"],
    ["JWKS URL", "https://id.example.com/keys"],
  ] as const) {
    const field = page.getByLabel(label, { exact: true }).or(page.getByLabel(`${label} (optional)`, { exact: true }));
    assert.equal(await field.evaluate((one) => one.localName), "input", label);
    await field.fill(text);
  }
  await page.getByLabel("Name", { exact: true }).fill("corp");
  await page.getByLabel("Algorithms").fill("ES256");
  await page.getByLabel("Role (optional)", { exact: true }).first().selectOption("caller");
  await checked(page, "the form of an issuer");
  await page.getByRole("button", { name: "Create issuer" }).click();
  await page.getByRole("listitem").filter({ hasText: "https://id.example.com" }).waitFor();
  const { audience, role } = (await gateway.request("GET", "/v1/issuers/corp")).json;
  assert.deepEqual([audience, role], ["narthex", "caller"]);
  await close(page);
});

test("a_replay_links_to_its_original", { skip }, async () => {
  const { id } = (
    await gateway.request("POST", "/v1/contexts", { body: { capability: "echo", parameters: { text: "once" } } })
  ).json;
  const replay = (await gateway.request("POST", `/v1/contexts/${id}/replay`)).json.id;
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/contexts/${replay}`);
  await page.getByRole("link", { name: id }).click();
  await page.waitForURL(`${gateway.url}/#/contexts/${id}`);
  await close(page);
});

test("more_services_than_fit_on_a_page_are_loaded_when_asked_for", { skip }, async () => {
  const many = await startGateway();
  const ids = Array.from({ length: 150 }, (_, at) => `many-${String(at).padStart(3, "0")}`);
  for (const id of ids) await register(many, id, serviceAt("http://127.0.0.1:9/", [{}], { name: id }));
  const page = await open(many);
  await signIn(page, many.adminKey);
  const table = page.getByRole("region", { name: "Services" });
  await table.getByText("many-099").waitFor();
  assert.equal(await table.getByText("many-100").count(), 0);
  await checked(page, "now with many services");
  await table.getByRole("link", { name: "More services" }).click();
  await heading(page, "Services").waitFor();
  await page.getByText("many-099", { exact: true }).waitFor();
  assert.equal(await page.getByText("many-100", { exact: true }).count(), 0);
  await page.getByRole("button", { name: "Load more" }).click();
  await page.getByText("many-149", { exact: true }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Load more" }).count(), 0);
  await checked(page, "many services");
  await close(page);
  await many.stop();
});
