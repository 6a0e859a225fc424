// The console in Chromium, against a real gateway with real services: every screen with mouse and keyboard, in light
// and dark, on phones too, and checked for accessibility. UPDATE_DOCS=1 recreates the pictures of docs/console.md.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { eventually } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import {
  checked,
  close,
  countWords,
  demo,
  desktop,
  fits,
  furnished,
  heading,
  open,
  signIn,
  skip,
} from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";

/**
 * Limits on what a browser downloads, compressed. The files are served as they are written, comments included, so these
 * leave room for readable source; they keep out libraries and generated code.
 */
const MAX_BYTES = 96 * 1024;
/** The first screen: the page, its style sheets and every module that `main.js` and `now.js` import. */
const MAX_FIRST_SCREEN_BYTES = 52 * 1024;
const phone = { width: 360, height: 740 };

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

const folder = join(root, "console");

const compressedSize = (files: Iterable<string>) =>
  [...files].reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0);

/** These modules and all that they import, other than on demand. */
function imported(modules: string[]): Set<string> {
  const found = new Set<string>();
  const add = (name: string) => {
    if (found.has(name)) return;
    found.add(name);
    const text = readFileSync(join(folder, name), "utf8");
    for (const [, module] of text.matchAll(/^import .*? from "\.\/([\w-]+\.js)";$/gms)) add(module!);
  };
  for (const name of modules) add(name);
  return found;
}

test("the_console_is_small_and_has_a_strict_policy", async () => {
  const files = readdirSync(folder).filter((name) => /\.(js|css|html)$/.test(name));
  const size = compressedSize(files);
  assert.ok(size <= MAX_BYTES, `${size} bytes`);
  const page = files.filter((name) => !name.endsWith(".js"));
  const firstSize = compressedSize([...page, ...imported(["main.js", "now.js"])]);
  assert.ok(firstSize <= MAX_FIRST_SCREEN_BYTES, `${firstSize} bytes for the first screen`);
  for (const name of files) {
    const text = readFileSync(join(folder, name), "utf8");
    assert.doesNotMatch(
      text,
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\son\w+="|style="/,
      name,
    );
    assert.ok(text.split("\n").length < 300, name);
  }
  const at = gateway ?? (await startGateway());
  for (const path of ["/", "/main.js", "/style.css", "/icon.svg", "/demo.json"]) {
    const answer = await at.request("GET", path, { key: null });
    assert.equal(answer.status, 200, path);
    assert.equal(
      answer.headers.get("content-security-policy"),
      "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
  }
  if (at !== gateway) await at.stop();
});

test("a_newcomer_registers_a_service_and_runs_a_context_within_a_minute", { skip }, async () => {
  const began = Date.now();
  const page = await open(gateway);
  await signIn(page, gateway.adminKey);
  await page.getByRole("link", { name: "Register a service" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Word counter");
  await page.getByLabel("ID", { exact: true }).fill("words");
  await page.getByLabel("URL").fill(words.url);
  await page.getByLabel("Capability").fill("word_count");
  await page
    .getByLabel("Input schema")
    .fill('{"properties": {"text": {"type": "string", "title": "Text"}}, "required": ["text"]}');
  await page.getByRole("button", { name: "Register", exact: true }).click();
  await page.getByRole("heading", { name: "Word counter is registered" }).waitFor();
  await page.getByRole("link", { name: "Open Word counter" }).click();
  await page.getByText("Try word_count").click();
  await page.getByLabel("Text").fill("one front door");
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByRole("status").getByText("completed").waitFor();
  await page.getByRole("region", { name: "Result" }).getByText('"words": 3').waitFor();
  assert.ok(Date.now() - began < 60_000);
  await close(page);
});

/** Every screen, with what has to appear before it is checked. */
const screens: Record<string, (page: Page) => Promise<unknown>> = {
  now: (page) => page.getByRole("region", { name: "Ended" }).getByText("completed").first().waitFor(),
  contexts: (page) => page.getByText("input required").first().waitFor(),
  services: (page) => page.getByRole("link", { name: "Demonstration" }).waitFor(),
  "services/demo": async (page) => {
    await page.getByText("Try echo").click();
    await page.getByLabel("Text").waitFor();
  },
  "services/new": (page) => page.getByLabel("URL").waitFor(),
  "services/new?from=demo": (page) => page.getByRole("button", { name: "Save" }).waitFor(),
  "services/new?for=models": (page) => page.getByLabel("API key").waitFor(),
  models: (page) => page.locator(".models").getByText("demo").first().waitFor(),
  "models/demo": async (page) => {
    await page.getByLabel("Message").fill("Good morning");
    await page.getByRole("button", { name: "Send" }).click();
    await page
      .getByText(/^tokens: /)
      .last()
      .waitFor();
  },
  "models?tab=routes": (page) => page.getByText("No routes yet.").waitFor(),
  "access/keys": (page) => page.getByText("a caller").first().waitFor(),
  "access/roles": (page) => page.getByText("built-in").first().waitFor(),
  "access/limits": (page) => page.getByText("1000 requests in 60 s").waitFor(),
  "access/issuers": (page) => page.getByText("No issuers yet.").waitFor(),
  "access/clients": (page) => page.getByText("No clients yet.").waitFor(),
  "access/audit?action=key.*": (page) => page.getByText("key.created").first().waitFor(),
  "access/audit": (page) => page.getByText("key.created").first().waitFor(),
  connect: (page) => page.getByRole("region", { name: "Agents" }).waitFor(),
};

const looks = {
  light: { viewport: desktop, colorScheme: "light" },
  dark: { viewport: desktop, colorScheme: "dark" },
  phone: { viewport: phone, colorScheme: "light", hasTouch: true, isMobile: true },
  "phone in the dark": { viewport: phone, colorScheme: "dark", hasTouch: true, isMobile: true },
} as const;

/** The pictures of docs/console.md, by look and screen. */
const pictures: Record<string, string> = {
  "light now": "now",
  "light contexts": "contexts",
  "light a context": "context",
  "light services": "services",
  "light services/demo": "service",
  "light models/demo": "model",
  "light access/roles": "access",
  "light connect": "connect",
  "dark now": "now-dark",
  "dark a context": "context-dark",
  "phone now": "now-phone",
  "phone in the dark contexts": "contexts-phone",
};

async function picture(page: Page, what: string): Promise<void> {
  const name = pictures[what];
  if (!name || process.env.UPDATE_DOCS !== "1") return;
  const path = join(root, `docs/console/${name}.png`);
  const { width, height } = page.viewportSize()!;
  await page.screenshot({ path, clip: { x: 0, y: 0, width, height: Math.min(height, 700) } });
  assert.ok(statSync(path).size <= 100 * 1024, `${name} is too large`);
}

for (const [name, look] of Object.entries(looks)) {
  test(`every_screen_is_accessible_and_fits_${name.replaceAll(" ", "_")}`, { skip, timeout: 600_000 }, async () => {
    const page = await open(own, { ...look, reducedMotion: "reduce" });
    await page.getByLabel("API key").waitFor();
    await checked(page, `sign-in, ${name}`);
    await signIn(page, own.adminKey);
    for (const [screen, ready] of Object.entries(screens)) {
      await page.goto(`${own.url}/#/${screen}`);
      await ready(page).catch((error) => assert.fail(`${screen}: ${error}`));
      await checked(page, `${screen}, ${name}`);
      await picture(page, `${name} ${screen}`);
    }
    for (const status of ["failed", "completed", "input_required"]) {
      const { data } = (await own.request("GET", `/v1/contexts?limit=1&status=${status}`)).json;
      await page.goto(`${own.url}/#/contexts/${data[0].id}`);
      await page.getByRole("heading", { name: "Timeline" }).waitFor();
      await checked(page, `a context that is ${status}, ${name}`);
      if (status === "failed") await picture(page, `${name} a context`);
    }
    await close(page);
  });
}

test("every_screen_fits_phones_tablets_and_desktops", { skip, timeout: 600_000 }, async () => {
  const page = await open(own, { reducedMotion: "reduce" });
  await signIn(page, own.adminKey);
  const { data } = (await own.request("GET", "/v1/contexts?limit=1&status=failed")).json;
  const all = {
    ...screens,
    [`contexts/${data[0].id}`]: (at: Page) => at.getByRole("heading", { name: "Timeline" }).waitFor(),
  };
  for (const [screen, ready] of Object.entries(all)) {
    await page.goto(`${own.url}/#/${screen}`);
    await ready(page);
    for (const width of [320, 390, 768, 801, 820, 900, 950, 1024, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      await fits(page, screen);
    }
    await page.setViewportSize(desktop);
  }
  await close(page);
});

test("an_empty_gateway_shows_first_steps_and_starts_its_demonstration", { skip }, async () => {
  const empty = await startGateway();
  const page = await open(empty);
  await page.clock.install();
  await signIn(page, empty.adminKey);
  await page.getByRole("heading", { name: "Nothing here yet" }).waitFor();
  await page.getByRole("button", { name: "Start the demonstration" }).waitFor();
  await checked(page, "an empty gateway");
  // The screen is redrawn every 10 seconds, in place.
  await page.locator("main").getByRole("link", { name: "Register a service" }).focus();
  await page.clock.runFor(11_000);
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Register a service");
  await page.getByRole("button", { name: "Start the demonstration" }).click();
  await heading(page, "Demonstration").waitFor();

  await page.getByText("Try slow_count").click();
  await page.getByLabel("Count to").fill("2");
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByRole("status").getByText("executing").waitFor();
  await page.getByText("Progress: counted 1, to 2").waitFor();
  await page.getByRole("status").getByText("completed").waitFor();

  await page.getByRole("link", { name: "Services" }).click();
  await page.getByRole("link", { name: "Demonstration" }).click();
  await page.getByText("Try greet").click();
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByLabel("Name").fill("Ada");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Hello, Ada!").waitFor();

  await page.getByRole("link", { name: "demo" }).click();
  await page.getByRole("button", { name: "Check now" }).click();
  await page.getByText(/^Healthy: responded in /).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { name: "Nothing here yet" }).waitFor();
  await close(page);
  await empty.stop();
});

test("the_demonstration_can_be_switched_off", { skip }, async () => {
  const off = await startGateway({ vars: { DEMO: "false" } });
  const refusal = await off.request("PUT", "/v1/services/demo", { body: demo });
  assert.equal(refusal.status, 422);
  assert.equal(refusal.json.errors[0].pointer, "#/transport/kind");
  const page = await open(off);
  await signIn(page, off.adminKey);
  await page.getByRole("heading", { name: "Nothing here yet" }).waitFor();
  await eventually(async () => (await off.request("GET", "/demo.json", { key: null })).status === 404);
  assert.equal(await page.getByRole("button", { name: "Start the demonstration" }).count(), 0);
  await close(page);
  await off.stop();
});

test("contexts_are_seen_live_cancelled_and_replayed", { skip }, async () => {
  const page = await open(own);
  await signIn(page, own.adminKey);
  const { id } = (
    await own.request("POST", "/v1/contexts", {
      body: { capability: "slow_count", parameters: { to: 20 } },
      headers: { prefer: "respond-async" },
    })
  ).json;
  await page.getByRole("region", { name: "Executing" }).locator(`a[href$="${id}"]`).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("status").getByText("cancelled").waitFor();
  await page.getByRole("button", { name: "Replay" }).click();
  await page.getByRole("status").getByText("executing").waitFor();
  assert.doesNotMatch(page.url(), new RegExp(id));

  await page.getByRole("link", { name: "Contexts", exact: true }).click();
  await page.getByLabel("Status").selectOption("cancelled");
  await page.getByRole("button", { name: "Search" }).click();
  await eventually(async () => (await page.locator(".rows li").count()) === 1);
  await page.getByLabel("Context ID").fill(id);
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByRole("status").getByText("cancelled").waitFor();
  await close(page);
});

test("everything_can_be_reached_by_keyboard", { skip }, async () => {
  const page = await open(own);
  await page.getByLabel("API key").waitFor();
  await page.keyboard.type(own.adminKey);
  await page.keyboard.press("Enter");
  await heading(page, "Now").waitFor();
  await page.locator("nav").getByRole("link", { name: "Services" }).focus();
  await page.keyboard.press("Enter");
  await heading(page, "Services").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Services");
  for (let at = 0; at < 10; at += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement?.textContent?.includes("Demonstration"))) break;
  }
  await page.keyboard.press("Enter");
  await heading(page, "Demonstration").waitFor();
  await close(page);
});
