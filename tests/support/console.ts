// The console in Chromium: pages that fail their test on any error, and checks of a screen.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { makeKey, register, serviceAt } from "./arrange.ts";
import { missing, startBrowser } from "./browser.ts";
import { root } from "./configuration.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { type Handler, json } from "./service.ts";

export const skip = missing() ?? false;
if (skip) console.error(`The console's tests are skipped: ${skip}.`);

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const demo = JSON.parse(readFileSync(join(root, "console/demo.json"), "utf8"));
export const desktop = { width: 1200, height: 820 };

let browser: Browser;
before(async () => {
  if (!skip) browser = await startBrowser();
});
after(async () => {
  await browser?.close();
});

/** A service that counts the words of a text. */
export const countWords: Handler = (call, response) =>
  json({ result: { words: call.json.parameters.text.split(" ").length } })(call, response);

export type ConsolePage = Page & { faults: string[] };

/** A page that fails its test on any error that the test does not expect. */
export async function open(at: Gateway, look: Parameters<Browser["newContext"]>[0] = {}): Promise<ConsolePage> {
  const context: BrowserContext = await browser.newContext({
    viewport: desktop,
    permissions: ["clipboard-read", "clipboard-write"],
    ...look,
  });
  const page = Object.assign(await context.newPage(), { faults: [] as string[] });
  page.setDefaultTimeout(60_000);
  page.on("dialog", (dialog) => void dialog.accept());
  page.on("pageerror", (error) => page.faults.push(String(error)));
  // Violations of the content security policy appear here. What the gateway refuses, the screens show themselves.
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) page.faults.push(message.text());
  });
  await page.goto(at.url);
  return page;
}

export const heading = (page: Page, name: string | RegExp) =>
  page.getByRole("heading", { level: 1, name, exact: true });

/** @param to the heading of the screen that appears then */
export async function signIn(page: Page, key: string, to: string | RegExp = "Now"): Promise<void> {
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await heading(page, to).waitFor();
}

/** Closes a page; fails if an error occurred in it. */
export async function close(page: ConsolePage): Promise<void> {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

/** Checks a screen against WCAG 2.2 AA and best practice, and that it fits its width. */
export async function checked(page: Page, what: string): Promise<void> {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    // During a transition, text is half transparent and would fail for its contrast.
    await Promise.all(document.getAnimations().map((one) => one.finished));
    const { violations } = await (globalThis as any).axe.run({ runOnly: tags });
    return violations.map(
      (one: any) => `${one.id}: ${one.nodes.map((node: any) => `${node.target} ${node.failureSummary}`).join(" | ")}`,
    );
  });
  assert.deepEqual(found, [], what);
  await fits(page, what);
}

/** Checks that a screen fits its width: no sideways scrolling, nothing outside its card, no text broken by letters. */
export async function fits(page: Page, what: string): Promise<void> {
  const found = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const wide = scrollWidth > clientWidth ? [`${scrollWidth - clientWidth} px too wide`] : [];
    const outside = [...document.querySelectorAll(".card *")].filter((one) => {
      const box = one.getBoundingClientRect();
      const card = one.closest(".card")!.getBoundingClientRect();
      // What scrolls by itself, or is for screen readers only, may be larger.
      return (
        box.width > 1 &&
        !one.closest("pre, .scroll, svg, .hidden") &&
        (box.right > card.right + 1 || box.left < card.left - 1)
      );
    });
    const towers = [
      ...document.querySelectorAll("main code, main .badge, main strong, main time, main td, main th"),
    ].filter((one) => {
      const box = one.getBoundingClientRect();
      return !one.closest("pre") && box.height > 80 && box.width < 60;
    });
    const name = (one: Element) => `${one.localName}.${one.className} ${one.textContent?.slice(0, 40)}`;
    return [
      ...wide,
      ...outside.map((one) => `outside of its card: ${name(one)}`),
      ...towers.map((one) => `a tower: ${name(one)}`),
    ];
  });
  assert.deepEqual(found, [], `${what} at ${page.viewportSize()?.width} px`);
}

/** A gateway with something on every screen: contexts of all kinds, a healthy service and one that is down. */
export async function furnished(): Promise<Gateway> {
  const own = await startGateway();
  await register(own, "demo", demo);
  await register(
    own,
    "away",
    serviceAt("http://127.0.0.1:9/", [{ name: "translate" }], { name: "Translator", retry: { max_attempts: 1 } }),
  );
  await makeKey(own, "caller");
  await own.request("PUT", "/v1/limits/callers", {
    body: { kind: "requests", quota: 1000, window_seconds: 60, binds: { role: "caller" } },
  });
  const ask = (capability: string, parameters = {}, prefer = "wait=10", more = {}) =>
    own.request("POST", "/v1/contexts", { body: { capability, parameters, ...more }, headers: { prefer } });
  for (let at = 0; at < 6; at += 1) await ask("translate");
  for (const share of [1, 0, 1]) await ask("fail_sometimes", { share });
  for (const text of ["one", "two", "three"]) await ask("echo", { text });
  await ask("greet");
  await ask("echo", { text: "later" }, "respond-async", {
    run_at: new Date(Date.now() + 20 * 86_400_000).toISOString(),
    timeout_seconds: 60,
  });
  await ask("slow_count", { to: 20 }, "respond-async");
  return own;
}

/** Runs the lines for curl, JavaScript and Python that a page shows, with a key. */
export async function runSnippets(page: Page, secret: string, expected: RegExp): Promise<void> {
  const runs: [string, string, string[]][] = [
    ["curl", "sh", ["-c"]],
    ["JavaScript", process.execPath, ["--input-type=module", "-e"]],
    ["Python", "python3", ["-c"]],
  ];
  for (const [name, program, args] of runs) {
    await page.getByRole("button", { name: `Copy ${name}` }).click();
    const lines = await page.evaluate(() => navigator.clipboard.readText());
    const env = { ...process.env, NARTHEX_KEY: secret };
    const [output, code] = await new Promise<[string, unknown]>((resolve) => {
      execFile(program, [...args, lines], { env }, (error, stdout, stderr) => resolve([stdout + stderr, error?.code]));
    });
    // A program that this machine lacks says nothing about the snippet.
    if (code === "ENOENT" || code === 127) continue;
    assert.match(output, expected, name);
  }
}
