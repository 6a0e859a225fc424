// Live updates of the console: breaks of the stream, exact figures at any load, and rows that hold still and keep the
// focus while they are read.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Page, Request } from "playwright-core";
import { eventually, makeKey, register } from "./support/arrange.ts";
import { close, demo, furnished, open, signIn, skip } from "./support/console.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { openEvents } from "./support/socket.ts";

let own: Gateway;
before(async () => {
  if (!skip) own = await furnished();
});
after(() => own?.stop());

const send = async (text: string): Promise<string> =>
  (await own.request("POST", "/v1/contexts", { body: { capability: "echo", parameters: { text } } })).json.id;

test("after_a_break_the_stream_resumes_where_it_was", { skip }, async () => {
  const page = await open(own);
  const [sockets, sequences]: [string[], number[]] = [[], []];
  page.on("websocket", (socket) => {
    sockets.push(socket.url());
    socket.on(
      "framereceived",
      ({ payload }) => void (payload !== "pong" && sequences.push(Number(JSON.parse(String(payload)).sequence))),
    );
  });
  await signIn(page, own.adminKey);
  await page.getByText("Live", { exact: true }).waitFor();
  await page.evaluate(() => {
    const line = document.getElementById("connection")!;
    const shown: string[] = ((globalThis as any).shown = []);
    new MutationObserver(() => shown.push(line.textContent)).observe(line, { childList: true });
  });
  const ended = page.getByRole("region", { name: "Ended" });
  const before = await send("before");
  await ended.locator(`a[href$="${before}"]`).waitFor();
  const count = Number(await ended.locator("h3 span").innerText());

  // The hub loses its sockets, as after a deployment.
  await own.evict("EventHub", "default", { webSockets: "close" });
  const during = await Promise.all(Array.from({ length: 10 }, (_, at) => send(`during ${at}`)));
  await eventually(async () => Number(await ended.locator("h3 span").innerText()) >= count + during.length);
  await page.getByText("Live", { exact: true }).waitFor();
  assert.match(sockets.at(-1)!, /after=\d+/);
  assert.deepEqual(
    sequences,
    sequences.map((_, at) => sequences[0]! + at),
    "no gap and no repeat",
  );
  const shown: string[] = await page.evaluate(() => (globalThis as any).shown);
  assert.ok(
    shown.some((text) => /^Connection lost\. Reconnecting in \d+ s$/.test(text)),
    shown.join("; "),
  );
  await close(page);
});

test("after_a_gap_in_the_stream_everything_is_read_again", { skip }, async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-console-"));
  const vars = { ADMIN_KEY: "a key that outlives the restart" };
  const sendTo = async (at: Gateway) =>
    (await at.request("POST", "/v1/contexts", { body: { capability: "echo", parameters: { text: "a" } } })).json.id;
  try {
    const first = await startGateway({ persist, vars });
    await register(first, "demo", demo);
    const page = await open(first);
    const events: any[] = [];
    page.on("websocket", (socket) =>
      socket.on(
        "framereceived",
        ({ payload }) => void (payload !== "pong" && events.push(JSON.parse(String(payload)))),
      ),
    );
    await signIn(page, vars.ADMIN_KEY);
    await page.getByText("Live", { exact: true }).waitFor();
    const ended = page.getByRole("region", { name: "Ended" });
    await ended.locator(`a[href$="${await sendTo(first)}"]`).waitFor();
    await first.stop();
    // Contexts end while the page is disconnected, and their events leave the log before it reconnects.
    const elsewhere = await startGateway({ persist, vars });
    const missed: string[] = [];
    const stream = await openEvents(elsewhere);
    for (let at = 0; at < 3; at += 1) {
      const id = await sendTo(elsewhere);
      missed.push(id);
      await stream.next((event) => event.subject === id && event.type === "context.completed");
    }
    stream.close();
    await elsewhere.stop();
    databases(persist, "EventHub", "log", (log) =>
      log.exec("DELETE FROM log WHERE first < (SELECT max(first) FROM log)"),
    );
    const again = await startGateway({ persist, vars, port: Number(new URL(first.url).port) });
    // The lists may be loaded before the stream reconnects.
    await eventually(() => events.some(({ type }) => type === "stream.gap"));
    for (const id of missed) await ended.locator(`a[href$="${id}"]`).waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    await ended.locator(`a[href$="${await sendTo(again)}"]`).waitFor();
    // The browser reports connections that failed or were cut while the gateway was down.
    page.faults = page.faults.filter(
      (text) => !/ERR_CONNECTION|ERR_INCOMPLETE_CHUNKED_ENCODING|WebSocket connection/.test(text),
    );
    await close(page);
    await again.stop();
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

/** The figure on the tile of this name. */
const tile = (page: Page, name: string | RegExp) =>
  page.locator(".tiles .card", { has: page.getByText(name) }).locator(".figure");

test("now_shows_the_gateways_own_count_and_its_period", { skip }, async () => {
  const busy = await startGateway();
  await register(busy, "demo", demo);
  // More contexts than one page of the list holds.
  const share = (at: number) => ({
    capability: at % 5 === 0 ? "fail_sometimes" : "echo",
    parameters: at % 5 === 0 ? { share: 1 } : { text: "x" },
  });
  const create = (at: number) =>
    busy.request("POST", "/v1/contexts", { body: share(at), headers: { prefer: "wait=30" }, contract: false });
  for (let begun = 0; begun < 300; begun += 30)
    await Promise.all(Array.from({ length: 30 }, (_, at) => create(begun + at)));
  const counted = async () => (await busy.request("GET", "/v1/usage")).json.data[0];
  await eventually(async () => {
    const { completed, failed } = await counted();
    return completed + failed === 300;
  });
  const page = await open(busy);
  await signIn(page, busy.adminKey);
  await tile(page, /^Ended since /)
    .getByText("300", { exact: true })
    .waitFor();
  assert.equal(await tile(page, "Completed").innerText(), "80%");
  await page.getByText("240 of 300").waitFor();
  const { latency_ms } = await counted();
  assert.match(
    await tile(page, "p50 / p95").innerText(),
    new RegExp(`^${latency_ms.p50 < 1 ? "< 1" : latency_ms.p50} ms`),
  );
  assert.equal(await page.getByRole("region", { name: "Ended" }).locator("h3 span").innerText(), "300");
  await page.getByText(/^60 × /).waitFor();
  const row = page.getByRole("row", { name: /^Demonstration/ });
  assert.deepEqual((await row.getByRole("cell").allInnerTexts()).slice(1, 4), ["0", "300", "20%"]);
  // Counting continues, and other periods include the same contexts.
  await create(1);
  await tile(page, /^Ended since /)
    .getByText("301", { exact: true })
    .waitFor();
  await page.getByText(/^Counted by the gateway for the whole tenant since (\w+ \d+, )?\d+:\d\d [AP]M\.$/).waitFor();
  await page.getByLabel("Period").selectOption("Last 7 days");
  await tile(page, /^Ended since /)
    .getByText("301", { exact: true })
    .waitFor();
  await close(page);
  await busy.stop();
});

test("without_usage_read_the_screen_states_what_its_figures_cover", { skip }, async () => {
  const { secret } = await makeKey(own, "bare", ["contexts:read", "contexts:read:*", "services:read"]);
  const page = await open(own);
  await signIn(page, secret);
  await page.getByText(/^Based on the latest \d+ ended contexts that your key can read\./).waitFor();
  assert.equal(await page.getByLabel("Period").count(), 0);
  await close(page);
});

test("without_events_read_the_screens_are_refreshed_periodically", { skip }, async () => {
  const { secret } = await makeKey(own, "bare", ["contexts:read", "contexts:read:*"]);
  const page = await open(own);
  await signIn(page, secret);
  await page.getByText("Not live: your key lacks events:read. Refreshed every 10 s").waitFor();
  const id = await send("polled");
  await page.locator(`a[href$="${id}"]`).first().waitFor();
  await close(page);
});

const focused = (page: Page) =>
  page.evaluate(() => document.activeElement?.getAttribute("href") ?? document.activeElement?.localName);

test("the_focus_stays_on_its_row_while_rows_hold_still", { skip }, async () => {
  const page = await open(own);
  await signIn(page, own.adminKey);
  for (const [screen, list, region] of [
    ["contexts", page.locator(".rows"), page.locator("main")],
    ["now", page.getByRole("region", { name: "Ended" }).locator("ul"), page.getByRole("region", { name: "Ended" })],
  ] as const) {
    await page.mouse.move(0, 0);
    await page.goto(`${own.url}/#/${screen}`);
    await list.locator("a.card").nth(3).waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    const before = await list.locator("a.card").evaluateAll((links) => links.map((one) => one.getAttribute("href")));
    await list.locator("a.card").nth(3).focus();
    for (let count = 1; count <= 3; count += 1) {
      const id = await send(`while ${screen} has the focus`);
      await region.getByRole("button", { name: `${count} new` }).waitFor();
      assert.equal(await focused(page), before[3], screen);
      assert.equal(await list.locator(`a[href$="${id}"]`).count(), 0);
    }
    assert.deepEqual(
      await list.locator("a.card").evaluateAll((links) => links.map((one) => one.getAttribute("href"))),
      before,
      screen,
    );
    await region
      .getByRole("status")
      .getByText(/^\d new in \w+\. The list does not move while you read it\.$/)
      .waitFor();
    // When the button is pressed by keyboard, the first new row gets the focus.
    await region.getByRole("button", { name: "3 new" }).focus();
    // The list looks whether it is still being read as soon as the focus has moved.
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "3 new");
    await page.keyboard.press("Enter");
    const first = await list.locator("a.card").first().getAttribute("href");
    assert.equal(await focused(page), first, screen);
    assert.ok(!before.includes(first), screen);
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  }
  await close(page);
});

test("rows_hold_still_under_the_pointer_and_when_scrolled", { skip }, async () => {
  const page = await open(own, { viewport: { width: 1200, height: 500 } });
  await signIn(page, own.adminKey);
  await page.goto(`${own.url}/#/contexts`);
  const rows = page.locator(".rows a.card");
  await rows.nth(5).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  await rows.nth(1).hover();
  const place = await rows.nth(1).boundingBox();
  const href = await rows.nth(1).getAttribute("href");
  const id = await send("below the pointer");
  await page.getByRole("button", { name: "1 new" }).waitFor();
  assert.deepEqual(await page.locator(`a[href="${href}"]`).boundingBox(), place);
  // When the pointer leaves, all rows are shown.
  await page.mouse.move(5, 5);
  await page.locator(`.rows a[href$="${id}"]`).waitFor();

  await page.evaluate(() => scrollTo(0, 300));
  const scrolled = await rows.nth(5).boundingBox();
  const sixth = await rows.nth(5).getAttribute("href");
  const next = await send("while it is scrolled");
  await page.getByRole("button", { name: "1 new" }).waitFor();
  assert.deepEqual(await page.locator(`a[href="${sixth}"]`).boundingBox(), scrolled);
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator(`.rows a[href$="${next}"]`).waitFor();
  await close(page);
});

test("an_action_that_disappears_passes_its_focus_to_no_other_action", { skip }, async () => {
  const page = await open(own);
  await signIn(page, own.adminKey);
  const { id } = (
    await own.request("POST", "/v1/contexts", {
      body: { capability: "slow_count", parameters: { to: 20 } },
      headers: { prefer: "respond-async" },
    })
  ).json;
  await page.goto(`${own.url}/#/contexts/${id}`);
  await page.getByRole("status").getByText("executing").waitFor();
  await page.getByRole("button", { name: "Cancel" }).focus();
  // Progress arrives every second and redraws the screen.
  await page.getByText(/^Progress: counted [2-9]/).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Cancel");
  await own.request("POST", `/v1/contexts/${id}/cancel`);
  await page.getByRole("button", { name: "Replay" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.localName), "h1");
  await close(page);
});

test("a_context_with_a_future_run_at_is_scheduled_and_not_in_flight", { skip }, async () => {
  const page = await open(own);
  await signIn(page, own.adminKey);
  const scheduled = page.getByRole("region", { name: "Scheduled" });
  await scheduled.getByText(/^for \w+ \d+, \d{4}/).waitFor();
  assert.equal(await page.getByRole("region", { name: "Waiting" }).locator("h3 span").innerText(), "0");
  await scheduled.locator("a.card").click();
  await page.getByRole("status").getByText("scheduled").waitFor();
  await page.getByText(/^None yet: scheduled for /).waitFor();
  await close(page);
});

test("view_all_lists_the_contexts_of_its_column", { skip }, async () => {
  const page = await open(own);
  await signIn(page, own.adminKey);
  await page.getByRole("region", { name: "Ended" }).getByRole("link", { name: "View all" }).click();
  await page.locator(".rows a.card").nth(6).waitFor();
  assert.match(page.url(), /#\/contexts\?status=ended$/);
  assert.equal(await page.getByLabel("Status").locator("option:checked").innerText(), "any ended");
  const states = await page.locator(".rows .badge").allInnerTexts();
  assert.ok(states.includes("completed") && states.includes("failed"), states.join());
  assert.ok(
    states.every((one) => ["completed", "failed", "cancelled", "timed out"].includes(one)),
    states.join(),
  );
  await close(page);
});

test("figures_are_labeled_by_the_period_they_were_counted_in", { skip }, async () => {
  const page = await open(own);
  let answer: "now" | "later" | "never" = "now";
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const held = new Set<Request>();
  const inFlight = new Set<Request>();
  page.on("request", (request) => void (request.url().includes("/v1/usage?") && inFlight.add(request)));
  const end = (request: Request) => void inFlight.delete(request);
  page.on("requestfinished", end).on("requestfailed", end);
  const isLong = (query: URLSearchParams) =>
    !query.has("bucket") && Date.now() - Date.parse(query.get("after")!) > 12 * 3_600_000;
  await page.route("**/v1/usage?*", async (route) => {
    const { searchParams } = new URL(route.request().url());
    if (!isLong(searchParams) || answer === "now") return route.continue();
    if (answer === "never") return route.fulfill({ status: 422, json: { detail: "Counting is away." } });
    held.add(route.request());
    await released;
    const all = { created: 7777, completed: 7777, failed: 0, cancelled: 0, timed_out: 0, errors: {}, latency_ms: {} };
    return route.fulfill({ json: { data: searchParams.has("group_by") ? [] : [all] } });
  });
  await signIn(page, own.adminKey);
  await page.getByText("Live", { exact: true }).waitFor();
  const [note, choice] = [page.getByText(/^Counted by the gateway/), page.getByLabel("Period")];
  await note.waitFor();
  // Until the response arrives, figures and label are those of the previous period.
  answer = "later";
  await choice.selectOption("Last 7 days");
  await eventually(() => held.size > 0);
  await page
    .getByRole("region", { name: "Ended" })
    .locator(`a[href$="${await send("a redraw")}"]`)
    .waitFor();
  const before = await note.innerText();
  // The requests of this choice: figures, the same by service, and the chart.
  const asks = (member: string) =>
    page.waitForRequest((request) => {
      const { pathname, searchParams } = new URL(request.url());
      return pathname === "/v1/usage" && searchParams.has(member) && !isLong(searchParams);
    });
  await Promise.all([asks("group_by"), asks("bucket"), choice.selectOption("recent")]);
  await eventually(() => [...inFlight].every((request) => held.has(request)));
  release();
  await eventually(() => inFlight.size === 0);
  // What arrived before this response has been read.
  await page.evaluate(async () => (await fetch("/health")).text());
  assert.notEqual(await tile(page, /^Ended since /).innerText(), "7,777");
  await choice.selectOption("Last 7 days");
  await tile(page, /^Ended since /)
    .getByText("7,777")
    .waitFor();
  assert.notEqual(await note.innerText(), before);
  await choice.selectOption("recent");
  await tile(page, /^Ended since /)
    .getByText("7,777")
    .waitFor({ state: "detached" });
  answer = "never";
  await choice.selectOption("Last 7 days");
  await page.getByRole("alert").getByText("Counting is away.").waitFor();
  assert.equal(await choice.inputValue(), "recent");
  await close(page);
});

test("a_key_that_is_revoked_while_its_row_holds_still_has_no_actions", { skip }, async () => {
  const { id } = await makeKey(own, "caller");
  const page = await open(own);
  await signIn(page, own.adminKey);
  await page.goto(`${own.url}/#/access/keys`);
  const row = page.locator(`[data-key="${id}"]`);
  await row.getByRole("button", { name: "Revoke" }).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  await row.locator("strong").hover();
  await page.mouse.move(5, 5);
  await row.locator("strong").hover();
  await own.request("DELETE", `/v1/keys/${id}`, { headers: { "if-match": "*" } });
  await row.getByText("gone", { exact: true }).waitFor();
  assert.equal(await row.getByRole("button").count(), 0);
  await page.mouse.move(5, 5);
  await row.waitFor({ state: "detached" });
  await close(page);
});
