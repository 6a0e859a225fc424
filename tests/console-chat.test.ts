// A chat in the console: streamed, over several turns, stopped in the middle, and with the errors of providers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { readPiece } from "../console/chat-piece.js";
import { eventReader } from "../console/event-data.js";
import { eventually, makeKey, register } from "./support/arrange.ts";
import { checked, close, demo, heading, open, runSnippets, signIn, skip } from "./support/console.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { providerKeys, startModelUpstream, text } from "./support/model-upstream.ts";
import { type Handler, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
let odd: Service;

before(async () => {
  if (skip) return;
  gateway = await startGateway();
  provider = await startModelUpstream();
  odd = await startService(hostile);
  await register(gateway, "demo", demo);
  const openai = (url: string) => ({ name: "Provider", type: "llm", transport: { kind: "openai", url: `${url}v1` } });
  await register(gateway, "gpt", {
    ...openai(provider.url),
    credentials: { headers: { Authorization: `Bearer ${providerKeys.openai}` } },
    models: [{ id: "small", upstream: "small-2026-07-23" }],
  });
  await register(gateway, "odd", { ...openai(odd.url), models: [{ id: "odd" }] });
});
after(async () => {
  await gateway?.stop();
  await provider?.stop();
  await odd?.stop();
});

const markup = '<img src="x" onerror="document.title=1"><b>bold</b>';

/** A provider whose text is markup, in responses and in errors. */
const hostile: Handler = (call, response) => {
  if (call.json.messages.length > 1)
    return void response
      .writeHead(400, { "content-type": "application/json" })
      .end(JSON.stringify({ error: { message: markup, type: "invalid_request_error", errors: 1, roles: [markup] } }));
  response.writeHead(200, { "content-type": "text/event-stream" });
  const choices = [{ index: 0, delta: { content: markup }, finish_reason: "length" }];
  response.end(`data: ${JSON.stringify({ choices })}\n\ndata: [DONE]\n\n`);
};

/** Opens the page of a model. */
async function chatWith(model: string, key = gateway.adminKey, look = {}) {
  const page = await open(gateway, look);
  await page.goto(`${gateway.url}/#/models/${encodeURIComponent(model)}`);
  await signIn(page, key, model);
  return page;
}

const log = (page: Page) => page.getByRole("log", { name: "Conversation" });

async function say(page: Page, message: string): Promise<void> {
  await page.getByLabel("Message").fill(message);
  await page.getByRole("button", { name: "Send" }).click();
}

test("events_are_read_from_pieces_cut_anywhere", () => {
  const stream = [
    ": a comment\r\n",
    'event: error\r\ndata: {"a": "Grüße 👋"}\r\n\r\n',
    "data:one\ndata: two\ndata\n\n",
    "id: 1\nretry: 5\n\n",
    "event: keepalive\ndata:\n\ndata: \n\n",
    "data:  three\r\rdatabase: none\n\ndata: [DONE]",
  ].join("");
  const expected = ['{"a": "Grüße 👋"}', "one\ntwo\n", " three", "[DONE]"];
  for (let size = 1; size <= stream.length; size += 1) {
    const events = eventReader();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...events.push(stream.slice(at, at + size)));
    assert.deepEqual([...found, ...events.end()], expected, `in pieces of ${size}`);
  }
});

test("errors_of_each_form_are_read_from_pieces", () => {
  for (const [piece, words] of [
    [{ error: { message: "busy" } }, "busy"],
    [{ error: "busy" }, "busy"],
    [{ object: "error", message: "busy", code: 503 }, "busy"],
  ] as const)
    assert.throws(() => readPiece(JSON.stringify(piece)), { message: words });
  assert.deepEqual(readPiece('{"error":null,"choices":[{"delta":{"content":"Hi"}}]}'), { text: "Hi", reason: "" });
});

test("a_conversation_of_several_turns_is_streamed_and_counted", { skip }, async () => {
  const page = await chatWith("small");
  const from = provider.calls.length;
  await say(page, "Hi");
  await log(page).getByText(text).waitFor();
  await log(page).getByText("tokens: 1,019 in (1,000 cached), 110 out (64 reasoning)").waitFor();
  await log(page).getByText("small-2026-07-23").waitFor();
  assert.equal(await page.getByLabel("Message").inputValue(), "");
  await say(page, "And again");
  await eventually(async () => (await log(page).getByText(text).count()) === 2);
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: text },
    { role: "user", content: "And again" },
  ];
  assert.deepEqual(provider.calls[from + 1]!.json.messages, messages);
  await page.getByRole("link", { name: "View context" }).nth(1).waitFor();
  await checked(page, "a chat");

  // The page of a context leads back to the conversation.
  await page.getByRole("link", { name: "View context" }).first().click();
  await page.getByText(/^Content not kept: /).waitFor();
  await page.goBack();
  await log(page).getByText("And again").waitFor();
  // It is in this page's memory alone.
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
  await page.getByRole("button", { name: "New conversation" }).click();
  assert.equal(await log(page).getByText("Hi").count(), 0);
  await say(page, "Once more");
  await log(page).getByText(text).waitFor();
  assert.deepEqual(provider.calls.at(-1)!.json.messages, [{ role: "user", content: "Once more" }]);

  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, gateway.adminKey, "small");
  assert.equal(await log(page).getByText("Once more").count(), 0);
  await close(page);
});

test("words_are_shown_as_they_come_and_stop_ends_the_call", { skip }, async () => {
  const page = await chatWith("small");
  await say(page, "endless");
  // The stand-in's endless response begins with the first piece of its text, again and again.
  await log(page).getByText(text.slice(0, 5)).waitFor();
  assert.equal(await log(page).getAttribute("aria-busy"), "true");
  await checked(page, "a chat that is being streamed");
  await page.getByRole("button", { name: "Stop" }).click();
  await log(page).getByText("Stopped.").waitFor();
  assert.equal(await page.getByRole("button", { name: "Stop" }).count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement?.localName), "textarea");
  await eventually(() => provider.calls.at(-1)!.abandoned);
  await log(page).getByText("cancelled").waitFor();
  await log(page)
    .getByText(/^tokens: .*, estimated$/)
    .waitFor();

  // The conversation continues after what had arrived.
  await say(page, "Continue");
  await log(page).getByText(text).waitFor();
  const [first, partial, last] = provider.calls.at(-1)!.json.messages;
  assert.deepEqual([first.content, last.content], ["endless", "Continue"]);
  assert.ok(partial.content.startsWith(text.slice(0, 5)), partial.content);

  // Leaving the page ends the call, too.
  await say(page, "endless");
  await page.getByRole("button", { name: "Stop" }).waitFor();
  await eventually(() => provider.calls.at(-1)!.json.messages.at(-1).content === "endless");
  await page.getByRole("link", { name: "← Models" }).click();
  await heading(page, "Models").waitFor();
  await eventually(() => provider.calls.at(-1)!.abandoned);
  await close(page);
});

test("errors_are_shown_in_words_and_what_failed_can_be_sent_again", { skip }, async () => {
  const page = await chatWith("small");
  for (const [message, words] of [
    ["error 429", /^No \(429\)\. Try again in \d+ s\.$/],
    ["error 400", "No (400)."],
    ["late-error", "The server had an error."],
    ["cut", /./],
  ] as const) {
    await say(page, message);
    await log(page).getByRole("alert").getByText(words).waitFor();
    await eventually(async () => (await page.getByLabel("Message").inputValue()) === message);
    await checked(page, `the error of ${message}`);
    await page.getByRole("button", { name: "New conversation" }).click();
  }
  await say(page, "error 500");
  await log(page).getByRole("alert").waitFor();
  await say(page, "Hi");
  await log(page).getByText(text).waitFor();
  assert.deepEqual(provider.calls.at(-1)!.json.messages, [{ role: "user", content: "Hi" }]);
  // The browser reports the failure as well.
  page.faults = page.faults.filter((fault) => !fault.includes("status of 500"));
  await close(page);

  const unknown = await chatWith("smal");
  await say(unknown, "Hi");
  await log(unknown).getByRole("alert").getByText("small").waitFor();
  await close(unknown);
});

test("what_a_provider_sends_is_shown_as_text", { skip }, async () => {
  const page = await chatWith("odd");
  await say(page, markup);
  await log(page).getByText(markup).nth(1).waitFor();
  await log(page).getByText("The response reached its maximum length.").waitFor();
  await say(page, "Again");
  await log(page).getByRole("alert").getByText(markup).waitFor();
  assert.equal(await page.locator("main :is(img, b)").count(), 0);
  await close(page);
});

test("a_key_that_may_only_use_a_model_chats_with_it", { skip }, async () => {
  const { secret } = await makeKey(gateway, "bare", ["models:use:demo"]);
  const page = await chatWith("demo", secret);
  await say(page, "Good morning");
  await log(page).getByText("You wrote: Good morning").waitFor();
  await page.getByRole("button", { name: "New conversation" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "View context" }).count(), 0);
  await close(page);
  const other = await chatWith("small", secret);
  await say(other, "Hi");
  await log(other).getByRole("alert").waitFor();
  await close(other);
});

test("the_keyboard_alone_suffices_to_chat", { skip }, async () => {
  const page = await open(gateway, { viewport: { width: 320, height: 640 } });
  await page.getByLabel("API key").waitFor();
  await page.keyboard.type(gateway.adminKey);
  await page.keyboard.press("Enter");
  await heading(page, "Now").waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  /** Tabs to what this text names. */
  async function tabTo(wanted: () => Promise<boolean>): Promise<void> {
    for (let at = 0; at < 60; at += 1) {
      if (await wanted()) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`60 steps, and the focus is at ${await focused()}`);
  }
  const isAt = (what: string) => async () => (await focused()) === what;
  await page.locator("nav a").first().focus();
  await tabTo(isAt("Models"));
  await page.keyboard.press("Enter");
  await heading(page, "Models").waitFor();
  await page.locator(".models li").first().waitFor();
  await tabTo(async () => (await focused()).startsWith("demo"));
  await page.keyboard.press("Enter");
  await heading(page, "demo").waitFor();
  const isInMessage = () => page.evaluate(() => document.activeElement?.localName === "textarea");
  await tabTo(isInMessage);
  await page.keyboard.type("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  await page.keyboard.press("Enter");
  await log(page)
    .getByText(/You wrote: one\s+two/)
    .waitFor();
  await log(page)
    .getByText(/^tokens: /)
    .waitFor();
  assert.ok(await isInMessage());
  await checked(page, "a chat at 320 px");
  await tabTo(isAt("Send"));
  await tabTo(isAt("New conversation"));
  await page.keyboard.press("Enter");
  assert.ok(await isInMessage());
  await close(page);
});

test("the_snippets_of_a_chat_run_as_they_are", { skip }, async () => {
  const { secret } = await makeKey(gateway, "caller");
  const page = await chatWith("demo");
  await say(page, "It's '''fine'''");
  await log(page).getByText("You wrote: It's '''fine'''").waitFor();
  await runSnippets(page, secret, /data: .*"demonstration. "[^]*"'''fine'''"[^]*data: \[DONE\]/);
  await page.getByRole("button", { name: "Copy OpenAI's libraries" }).click();
  const settings = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(settings, `export OPENAI_BASE_URL=${gateway.url}/v1\nexport OPENAI_API_KEY="$NARTHEX_KEY"`);
  await close(page);
});
