// Signing in to the console and going about in it: by OAuth, with links that lead somewhere, back to where one was.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, makeKey, register } from "./support/arrange.ts";
import { checked, close, demo, heading, open, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;

before(async () => {
  if (skip) return;
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  await register(gateway, "demo", demo);
});
after(() => gateway?.stop());

test("people_sign_in_by_oauth_and_stay_for_the_tab", { skip }, async () => {
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

test("grants_are_seen_and_ended_beside_the_room_that_is_used", { skip }, async () => {
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
  await page.getByText(/^Configuration: \d+\.\d MiB of 12\.0 MiB$/).waitFor();
  await checked(page, "grants");
  const before = await grants.count();
  await grants.first().getByRole("button", { name: "Revoke" }).click();
  await page.waitForFunction((count) => [...document.querySelectorAll(".rows > li")].filter((one) => one.textContent?.includes("key:admin")).length < count, before);
  await close(page);
});


test("a_link_to_a_screen_survives_signing_in_by_oauth", { skip }, async () => {
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

test("signing_in_asks_for_nothing_that_is_not_there", { skip }, async () => {
  const plain = await startGateway({ vars: { DEMO: "false" } });
  const missing: string[] = [];
  const page = await open(plain);
  page.on("response", (response) => void (response.status() >= 400 && missing.push(`${response.status()} ${response.url()}`)));
  await page.reload();
  await page.getByLabel("API key").waitFor();
  await signIn(page, plain.adminKey);
  await page.getByRole("heading", { name: "Nothing here yet" }).waitFor();
  await page.waitForLoadState("networkidle");
  assert.equal(await page.getByRole("button", { name: "Sign in with OAuth" }).count(), 0);
  assert.deepEqual(missing, []);
  assert.ok(!plain.logs.some((line) => line.includes("oauth-authorization-server")));
  // What is of no use without it says so.
  await page.goto(`${plain.url}/#/access/clients`);
  await page.getByText(/^OAuth is off in this deployment/).waitFor();
  await close(page);
  await plain.stop();
});

test("going_back_leads_to_the_filter_and_the_place", { skip }, async () => {
  for (let at = 0; at < 70; at += 10) {
    await Promise.all(Array.from({ length: 10 }, () => accepted(gateway, { capability: "echo", parameters: { text: "row" } })));
  }
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.goto(`${gateway.url}/#/contexts?capability=echo`);
  const rows = page.locator(".rows a.card");
  await page.getByRole("button", { name: "Older ones" }).click();
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
  // By the keyboard the focus is where it was, too.
  await page.locator(`.rows a[href="${href}"]`).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Timeline" }).waitFor();
  await page.goBack();
  await page.waitForFunction((one) => document.activeElement?.getAttribute("href") === one, href);
  await close(page);
});

test("owners_and_actors_are_named_and_lead_to_their_keys", { skip }, async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { id: made } = await accepted(gateway, { capability: "echo", parameters: { text: "x" } }, { key: secret });
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.locator("#who").getByText("ADMIN_KEY").waitFor();
  await page.goto(`${gateway.url}/#/contexts/${made}`);
  await page.getByRole("link", { name: "a caller" }).click();
  await page.locator(".marked", { hasText: "a caller" }).getByText("used within this hour").waitFor();
  assert.match(page.url(), new RegExp(`#/access/keys\\?show=${id}$`));
  const theirs = await open(gateway);
  await signIn(theirs, secret);
  await theirs.locator("#who").getByText("a caller").waitFor();
  await close(theirs);

  // The audit log: who, from where, by which request, and only what is asked for.
  await page.getByRole("link", { name: "audit" }).click();
  await page.getByLabel("Action").fill("key.*");
  await page.getByRole("button", { name: "Search" }).click();
  const entry = page.getByRole("listitem").filter({ hasText: `keys/${id}` });
  await entry.getByText("ADMIN_KEY").waitFor();
  await entry.getByText(/^req_/).waitFor();
  await entry.getByText(/^from /).waitFor();
  assert.match(page.url(), /action=key\.\*/);
  assert.equal(await page.locator(".rows").getByText("service.created").count(), 0);
  await page.getByLabel("After").fill("tomorrow");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText(/^This must be a date such as/).waitFor();
  await checked(page, "the audit log with a fault");
  await close(page);
});
