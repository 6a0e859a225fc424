// The programs in examples/, run as users run them, against a real gateway.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { startGateway } from "./support/gateway.ts";
import { PATIENCE_MS } from "./support/patience.ts";

const gateway = await startGateway();
const children = new Set<ChildProcess>();
after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await gateway.stop();
});

const hasPython = (() => {
  try {
    execFileSync("python3", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

type Example = {
  /** Everything it printed so far, errors too. */
  output(): string;
  /** Waits until it has printed this; returns the match. */
  says(pattern: RegExp): Promise<RegExpMatchArray>;
  /** Its exit code. */
  ended: Promise<number | null>;
  child: ChildProcess;
};

function run(program: string, args: string[], env: Record<string, string>): Example {
  const child = spawn(program, args, { cwd: root, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  }
  const ended = new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  ended.catch(() => {}).finally(() => children.delete(child));
  return {
    output: () => output,
    ended,
    child,
    async says(pattern) {
      for (const until = Date.now() + PATIENCE_MS; Date.now() < until;) {
        const match = output.match(pattern);
        if (match) return match;
        await pause(10);
      }
      throw new Error(`${args.join(" ")} did not say ${pattern} but: ${output}`);
    },
  };
}

const newSecret = () => `whsec_${randomBytes(32).toString("base64")}`;
const node = process.execPath;
const programs: Record<string, [string, string]> = {
  "service.mjs": [node, "examples/service.mjs"],
  "service.py": ["python3", "examples/service.py"],
};

/** How to start the connected services. */
const connecting: Record<string, [string, string]> = {
  "socket-service.mjs": [node, "examples/socket-service.mjs"],
  "socket_service.py": ["python3", "examples/socket_service.py"],
};

const capabilities = ["word_count", "shout"].map((name) => ({
  name,
  idempotent: true,
  input_schema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
}));

/** Starts an example service and registers it, optionally with another secret. */
async function start(name: string, id: string, options: { gatewaySecret?: string; serviceSecrets?: string } = {}) {
  const [program, file] = programs[name]!;
  const secret = options.gatewaySecret ?? newSecret();
  const service = run(program, [file], { SIGNING_SECRET: options.serviceSecrets ?? secret, PORT: "0" });
  const [, url] = await service.says(/listening on (http:\S+)/);
  const transport = { kind: "http", url };
  const registration = { name: id, type: "tool", transport, signing_secret: secret, capabilities };
  const answer = await gateway.request("PUT", `/v1/services/${id}`, { body: registration });
  assert.equal(answer.status, 201, answer.text);
  return { service, secret, url: url!, id };
}

const ask = (service: string, capability: string, text: string) =>
  gateway.request("POST", "/v1/contexts", { body: { service, capability, parameters: { text } } });

for (const name of Object.keys(programs)) {
  const skip = name.endsWith(".py") && !hasPython && "python3 is not installed";
  const id = name.replace(".", "-");

  test(`${name}_does_the_work_it_is_sent`, { skip }, async () => {
    const { service } = await start(name, id);
    const counted = await ask(id, "word_count", "Grüße  an\nalle 🌍");
    assert.equal(counted.json.status, "completed", counted.text);
    assert.deepEqual(counted.json.result, { words: 4, characters: 16, lines: 2 });
    assert.deepEqual((await ask(id, "word_count", "")).json.result, { words: 0, characters: 0, lines: 0 });
    assert.deepEqual((await ask(id, "shout", "hört")).json.result, { text: "HÖRT!" });
    assert.match(service.output(), new RegExp(`${counted.json.id} word_count, attempt 1`));
  });

  test(`${name}_refuses_a_wrong_secret_and_the_context_reports_it`, { skip }, async () => {
    const { service } = await start(name, `${id}-wrong`, { serviceSecrets: newSecret() });
    const refused = await ask(`${id}-wrong`, "shout", "let me in");
    assert.equal(refused.status, 200);
    assert.equal(refused.json.status, "failed");
    assert.equal(refused.json.error.code, "upstream_error");
    assert.equal(refused.json.error.details.error.code, "bad_signature");
    assert.deepEqual(
      refused.json.attempts.map((attempt: any) => attempt.status_code),
      [401],
    );
    assert.doesNotMatch(service.output(), /shout/);
  });

  test(`${name}_accepts_two_secrets_during_a_rotation`, { skip }, async () => {
    const [old, fresh] = [newSecret(), newSecret()];
    await start(name, `${id}-two`, { gatewaySecret: old, serviceSecrets: `${old} ${fresh}` });
    assert.equal((await ask(`${id}-two`, "shout", "a")).json.status, "completed");
    const changed = { headers: { "if-match": "*" }, body: { signing_secret: fresh } };
    assert.equal((await gateway.request("PATCH", `/v1/services/${id}-two`, changed)).status, 200);
    assert.equal((await ask(`${id}-two`, "shout", "a")).json.status, "completed");
  });

  test(`${name}_accepts_only_genuine_and_recent_requests`, { skip }, async () => {
    const { url, secret } = await start(name, `${id}-strict`);
    const body = JSON.stringify({ context_id: "ctx_1", capability: "shout", attempt: 1, parameters: { text: "a" } });
    const now = Math.floor(Date.now() / 1000);
    const send = async (at: number | string, change: (signature: string) => string = (s) => s, sent = body) => {
      const key = Buffer.from(secret.slice(6), "base64");
      const signature = `v1,${createHmac("sha256", key).update(`ctx_1.${at}.${body}`).digest("base64")}`;
      const headers: Record<string, string> = {
        "content-type": "application/json",
        "webhook-id": "ctx_1",
        "webhook-timestamp": String(at),
        "webhook-signature": change(signature),
      };
      return (await fetch(url, { method: "POST", body: sent, headers })).status;
    };
    assert.equal(await send(now), 200);
    assert.equal(await send(now - 290), 200);
    assert.equal(await send(now, (signature) => `v1,AAAA v1a,x ${signature}`), 200, "one of several is enough");
    assert.equal(await send(now - 310), 401, "too old");
    assert.equal(await send(now + 310), 401, "from the future");
    assert.equal(await send(`${now}.0`), 401, "not seconds");
    assert.equal(await send(now, () => ""), 401);
    assert.equal(await send(now, (signature) => signature.replace("v1,", "v2,")), 401);
    assert.equal(await send(now, (signature) => signature.slice(3)), 401, "without its version");
    assert.equal(await send(now, (s) => s, body.replace('"a"', '"b"')), 401, "another body");
    assert.equal((await fetch(url, { method: "POST", body })).status, 401, "not signed at all");
    assert.equal((await fetch(url)).status, 200, "a health probe needs no signature");
  });

  test(`${name}_does_not_start_without_a_secret`, { skip }, async () => {
    const [program, file] = programs[name]!;
    const service = run(program, [file], { SIGNING_SECRET: "", PORT: "0" });
    assert.equal(await service.ended, 1);
    assert.match(service.output(), /SIGNING_SECRET is not set/);
  });
}

for (const [name, [program, file]] of Object.entries(connecting)) {
  const skip = name.endsWith(".py") && !hasPython && "python3 is not installed";
  const id = name.replace(".", "-");

  /** Registers a connected service; returns the environment of the example. */
  async function registered(id: string): Promise<Record<string, string>> {
    const registration = { name: id, type: "tool", transport: { kind: "socket", grace_seconds: 30 }, capabilities };
    const made = await gateway.request("PUT", `/v1/services/${id}`, { body: registration });
    assert.equal(made.status, 201, made.text);
    const key = { name: id, role: "service", permissions: [`services:connect:${id}`] };
    const { json } = await gateway.request("POST", "/v1/keys", { body: key });
    return { GATEWAY: gateway.url, SERVICE: id, KEY: json.secret };
  }

  test(`${name}_connects_and_does_the_work_it_is_sent`, { skip }, async () => {
    const service = run(program, [file], await registered(id));
    const counted = await ask(id, "word_count", "Grüße  an\nalle 🌍");
    assert.equal(counted.json.status, "completed", counted.text);
    assert.deepEqual(counted.json.result, { words: 4, characters: 16, lines: 2 });
    assert.equal((await ask(id, "shout", "x".repeat(70_000))).json.result.text.length, 70_001, "a long message");
    assert.match(service.output(), new RegExp(`${counted.json.id} word_count, attempt 1`));
    const texts = Array.from({ length: 20 }, (_, n) => `text ${n}`);
    const shouted = await Promise.all(texts.map((text) => ask(id, "shout", text)));
    assert.deepEqual(
      shouted.map(({ json }) => json.result?.text),
      texts.map((text) => `${text.toUpperCase()}!`),
    );
    // It exits by itself on a signal.
    service.child.kill("SIGTERM");
    assert.equal(await service.ended, 0, service.output());
  });

  test(`${name}_reconnects_when_its_connection_breaks`, { skip }, async () => {
    const service = run(program, [file], await registered(`${id}-broken`));
    assert.equal((await ask(`${id}-broken`, "shout", "before")).json.status, "completed");
    await gateway.evict("ServiceLane", `default/${id}-broken`, { webSockets: "close" });
    await service.says(/connected as [^]*connected as /);
    assert.equal((await ask(`${id}-broken`, "shout", "after")).json.status, "completed");
    service.child.kill("SIGKILL");
  });

  test(`${name}_does_not_start_without_a_key`, { skip }, async () => {
    const service = run(program, [file], { KEY: "" });
    assert.equal(await service.ended, 1);
    assert.match(service.output(), /KEY is not set/);
  });
}

const watch = (args: string[], key = gateway.adminKey) =>
  run(node, ["examples/watch.mjs", "--url", gateway.url, ...args], { ADMIN_KEY: key });

test("watch_shows_new_events_by_default", async () => {
  const { id } = await start("service.mjs", "watched");
  const watching = watch(["--types", "context.*", "--json"]);
  // It does not report that its socket is open, so events are created until it has seen one.
  for (let tries = 0; watching.output() === "" && tries < 500; tries += 1) {
    await ask(id, "shout", "anybody?");
    await pause(100);
  }
  const { json: context } = await ask(id, "shout", "now");
  await watching.says(new RegExp(`"context.completed","subject":"${context.id}"`));
  const events = watching
    .output()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const own = events.filter((event) => event.subject === context.id).map((event) => event.type);
  const steps = ["created", "validated", "queued", "executing", "attempt", "completed"];
  assert.deepEqual(
    own,
    steps.map((step) => `context.${step}`),
  );
  assert.ok(events.every((event) => event.type.startsWith("context.")));
  watching.child.kill();
  await watching.ended;
});

test("watch_begins_at_the_given_position_and_exits_after_a_count", async () => {
  await start("service.mjs", "listed");
  const watching = watch(["--after", "0", "--types", "service.registered", "--subject", "listed", "--count", "1"]);
  assert.equal(await watching.ended, 0, watching.output());
  assert.match(watching.output(), /^\d+ \d{4}-\d\d-\d\dT\S+Z service.registered listed\n$/);
});

test("watch_resumes_without_a_gap_when_its_socket_breaks", async () => {
  const { id } = await start("service.mjs", "broken");
  const watching = watch(["--after", "0", "--types", "context.completed", "--json"]);
  const first = await ask(id, "shout", "before");
  await watching.says(new RegExp(first.json.id));
  await gateway.evict("EventHub", "default", { webSockets: "close" });
  const second = await ask(id, "shout", "after");
  await watching.says(new RegExp(`"subject":"${second.json.id}"`));
  const sequences = watching
    .output()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).sequence);
  assert.deepEqual(sequences, [...new Set(sequences)].sort(), "in order, each once");
  watching.child.kill();
  await watching.ended;
});

test("watch_gives_up_when_its_key_is_invalid", async () => {
  const refused = watch([], "nx_unknown");
  assert.equal(await refused.ended, 1);
  assert.match(refused.output(), /no ticket: The credentials are invalid, expired or revoked/);

  const { json: key } = await gateway.request("POST", "/v1/keys", { body: { name: "watcher", role: "caller" } });
  const watching = watch(["--after", "0", "--types", "service.registered"], key.secret);
  await watching.says(/service.registered/);
  assert.equal((await gateway.request("DELETE", `/v1/keys/${key.id}`)).status, 204);
  assert.equal(await watching.ended, 1);
  assert.match(watching.output(), /the key has ended/);
});

for (const name of ["chat-openai.mjs", "chat-anthropic.mjs", "chat-ai-sdk.mjs", "chat-langchain.mjs"]) {
  test(`${name}_chats_with_the_demonstration`, async () => {
    const demo = JSON.parse(readFileSync(join(root, "console/demo.json"), "utf8"));
    const put = await gateway.request("PUT", "/v1/services/demo", { body: demo });
    // Another example may have registered it already.
    assert.ok([201, 428].includes(put.status), put.text);
    const body = { name: "chat", role: "caller" };
    const { json: key } = await gateway.request("POST", "/v1/keys", { body });
    const chat = run(node, [`examples/${name}`], { NARTHEX: gateway.url, KEY: key.secret });
    assert.equal(await chat.ended, 0, chat.output());
    assert.match(chat.output(), /^Hello from the demonstration\. .* You wrote: Good morning\n$/);
    // It is recorded after its response.
    const recorded = await eventually(async () => {
      const { json: list } = await gateway.request("GET", "/v1/contexts?service=demo", { key: key.secret });
      return list.data.length > 0 ? list.data : undefined;
    });
    const statuses = recorded.map((context: any) => context.status);
    assert.deepEqual(statuses, ["completed"], "the chat is a context of the key");

    const wrong = run(node, [`examples/${name}`], { NARTHEX: gateway.url, KEY: "nx_unknown" });
    assert.equal(await wrong.ended, 1, wrong.output());
    assert.match(wrong.output(), /The credentials are invalid, expired or revoked/);
    assert.match(wrong.output(), /\b401\b/);
  });
}

test("webhook_mjs_accepts_only_events_signed_by_the_gateway", async () => {
  const secret = newSecret();
  const example = run(node, ["examples/webhook.mjs"], { WEBHOOK_SECRET: secret, PORT: "0" });
  const [, url = ""] = await example.says(/listening on (http:\S+)/);
  const body = { url, secret, types: ["key.created"] };
  assert.equal((await gateway.request("PUT", "/v1/webhooks/example", { body })).status, 201);
  const tested = await gateway.request("POST", "/v1/webhooks/example/test");
  assert.ok(tested.json.delivered, tested.text);
  await example.says(/^0{16} webhook\.test example$/m);
  const forged = await fetch(url, { method: "POST", body: "{}", headers: { "webhook-id": "x" } });
  assert.equal(forged.status, 400);
  const none = run(node, ["examples/webhook.mjs"], { WEBHOOK_SECRET: "" });
  assert.equal(await none.ended, 1);
});
