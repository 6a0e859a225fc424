// With `content: none`, nothing of a call is kept or sent anywhere but to its client, whatever happens to it: secrets
// are planted in hundreds of calls of every kind, and searched for.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { eventually, finalStates } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy } from "./support/mcp.ts";
import { filesWithSecrets, isOnDisk, picture, planted, secretIn } from "./support/planted.ts";
import { type Services, startPlanted } from "./support/planted-services.ts";
import {
  acts,
  endings,
  hanging,
  type Kind,
  makeCall,
  type Outcome,
  refusals,
  registerPrivate,
} from "./support/private-contexts.ts";
import { children } from "./support/processes.ts";
import { json, type Service, startService } from "./support/service.ts";
import { type Events, openEvents } from "./support/socket.ts";
import { openStream, type Stream } from "./support/stream.ts";

/** How many calls are made at once, and how many of those that last. */
const AT_ONCE = 24;
const LASTING_AT_ONCE = 80;
/** How many services have a call when their worker is lost; more calls wait in queues. */
const LOST = 30;

const CALLS = acts.length + endings.length;

const folder = mkdtempSync(join(tmpdir(), "narthex-content-"));
const gateways: Gateway[] = [];
const watched: { socket: Events; stream: Stream }[] = [];
const outcomes: Outcome[] = [];
/** Calls whose worker was lost. */
const lost: Outcome[] = [];
let gateway: Gateway;
/** The process of the gateway. */
let workerd: number;
let hook: Service;
let services: Services;

async function start(timeScale?: number): Promise<void> {
  const vars = { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1" };
  const options = { persist: folder, vars, dataset: true, crashes: true };
  gateway = await startGateway({ ...options, ...(timeScale !== undefined && { timeScale }) });
  gateways.push(gateway);
  [workerd] = children(process.pid, "workerd") as [number];
  // Thousands of events: other tests check them against the contract.
  const socket = await openEvents(gateway, { contract: false });
  watched.push({ socket, stream: await openStream(gateway) });
}

before(async () => {
  hook = await startService(json({}));
  services = await startPlanted();
  await start();
  const webhook = { url: hook.url, types: ["context.*"] };
  const made = await gateway.request("PUT", "/v1/webhooks/all", { body: webhook });
  assert.equal(made.status, 201, made.text);
  await registerPrivate(gateway, services);
});
after(async () => {
  await gateway?.stop();
  await services?.stop();
  await hook?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const nameOf = (kind: Kind): string => Object.values(kind).join(" ");

/** Asserts that no file has a secret; a failure shows where each kind of them is, once. */
function assertNothingOnDisk(): void {
  const found = filesWithSecrets(folder).map((file) => file.replace(/[0-9a-f]{64}|\d+/g, "…"));
  assert.deepEqual([...new Set(found)].slice(0, 20), []);
}

/** Makes a call of each of these kinds. */
async function makeCalls(kinds: Kind[], atOnce: number): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < kinds.length) outcomes.push(await makeCall(gateway, services, kinds[next++]!));
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

/** All contexts, as they are listed. */
async function listed(): Promise<Map<string, any>> {
  const all = new Map<string, any>();
  for (let cursor = ""; cursor !== null;) {
    const path = `/v1/contexts?limit=200${cursor && `&cursor=${cursor}`}`;
    const { json, text } = await gateway.request("GET", path, { contract: false });
    assert.equal(secretIn(text), undefined);
    for (const context of json.data) all.set(context.id, context);
    cursor = json.next_cursor;
  }
  return all;
}

/** Waits until all contexts have ended, and until there are at least so many of these calls; returns theirs. */
async function allEnded(of: Outcome[], atLeast: number): Promise<any[]> {
  return eventually(async () => {
    const contexts = await listed();
    const known = of.flatMap(({ context }) => contexts.get(context ?? "") ?? []);
    const areFinal = [...contexts.values()].every(({ status }) => finalStates.includes(status));
    return areFinal && known.length >= atLeast ? known : undefined;
  });
}

/** Calls in flight, in queues and in front of services, over each interface. */
async function callsInFlight(): Promise<{ ended: Promise<unknown> }> {
  const earlier = services.arrived.size;
  const ended = Promise.all(hanging.map(async (kind) => lost.push(await makeCall(gateway, services, kind))));
  await eventually(() => services.arrived.size >= earlier + LOST);
  await listed();
  return { ended };
}

test("calls_of_every_kind_leave_nothing_on_disk", async () => {
  assert.ok(CALLS >= 300, `${CALLS}`);
  await Promise.all([makeCalls(acts, AT_ONCE), makeCalls(endings, LASTING_AT_ONCE)]);
  const made = outcomes.filter(({ context }) => context);
  await allEnded(made, made.length);
  assertNothingOnDisk();
});

test("refused_requests_leave_nothing_on_disk", async () => {
  for (const response of await refusals(gateway)) {
    const text = await response.text();
    assert.ok(response.status >= 400 || /"error"|"isError":true/.test(text), text);
  }
  assertNothingOnDisk();
});

test("their_clients_got_the_content", () => {
  const shown: Record<string, string[]> = {
    answers: ["parameter", "answer", "deep-answer"],
    grows: ["large"],
    swells: ["huge"],
    late: ["answer", "structured"],
    mutters: ["words"],
    fails: ["words", "detail"],
    "fails-at-length": ["words", "large-words"],
    refuses: ["words", "detail", "data"],
    crashes: ["words"],
    recovers: ["answer"],
    limits: ["answer"],
    reports: ["answer"],
    says: ["text", "structured", "link", "embedded", "result-meta"],
    chatters: ["progress", "log", "logger", "token-"],
    complains: ["text"],
    tasks: ["structured"],
    hangs: ["log"],
    completes: ["prompt", "answer"],
    streams: ["answer", "arguments"],
  };
  for (const [act, places] of Object.entries(shown)) {
    const answers = outcomes.filter(({ kind }) => kind.act === act).map(({ text }) => text);
    for (const place of places) {
      const word = planted(place).slice(0, `planted-${place}`.length);
      assert.ok(
        answers.some((text) => text.includes(word)),
        `${place} of ${act}`,
      );
    }
  }
});

test("calls_whose_wasm_instance_panics_leave_nothing_on_disk_or_in_the_log", async () => {
  const { ended } = await callsInFlight();
  assert.equal((await gateway.request("POST", "/panic/worker", { contract: false })).status, 500);
  await ended;
  assertNothingOnDisk();
  assert.ok(gateway.logs.some((line) => line.startsWith("panicked at")));
});

test("calls_whose_process_is_killed_leave_nothing_on_disk", async () => {
  const { ended } = await callsInFlight();
  process.kill(workerd, "SIGKILL");
  await ended;
  assertNothingOnDisk();
  await gateway.stop();
  await start(0.2);
  assertNothingOnDisk();
});

test("lost_calls_end_and_say_so", async () => {
  // Those that are not durable are stored at their end only.
  const known = await allEnded(lost, LOST);
  for (const { status, error } of known) assert.deepEqual([status, error.code], ["failed", "outcome_unknown"]);
  const inQueues = [...(await listed()).values()].filter(({ error }) => /^The worker that had/.test(error?.message));
  assert.ok(inQueues.length > LOST / 2, `${inQueues.length}`);
  assertNothingOnDisk();
});

test("events_webhooks_logs_and_figures_have_no_secret", async () => {
  const [last] = await makeOne({ flavour: "durable", act: "answers", client: "waits" });
  const isLast = ({ type, subject }: any) => type === "context.completed" && subject === last;
  // The events of all calls come before its last one.
  const { socket, stream } = watched.at(-1)!;
  for (const watcher of [socket, stream]) await watcher.next(isLast);
  await eventually(() => hook.calls.some(({ json }) => isLast(json)));
  const [before] = watched;
  for (const events of [before!.socket.messages, before!.stream.events]) {
    assert.ok(events.length > 3 * CALLS, `${events.length}`);
  }
  for (const { socket, stream } of watched)
    for (const events of [socket.messages, stream.events]) assert.equal(secretIn(JSON.stringify(events)), undefined);
  assert.ok(hook.calls.length > 3 * CALLS, `${hook.calls.length}`);
  for (const { raw, headers } of hook.calls)
    assert.equal(secretIn(raw) ?? secretIn(JSON.stringify(headers)), undefined);
  const logs = gateways.map((one) => one.logs.join("\n")).join("\n");
  assert.match(logs, /^point: /m);
  assert.match(logs, /"call failed"/);
  assert.equal(secretIn(logs), undefined);
});

test("nothing_that_can_be_read_has_a_secret", async () => {
  // One for each act.
  const perAct = new Map(outcomes.map(({ kind: { act }, context }) => [act, context]));
  const contexts = [...perAct.values()].flatMap((id) => id ?? []);
  const paths = [
    ...contexts.flatMap((id) => [`/v1/contexts/${id}`, `/v1/contexts/${id}/events`]),
    "/v1/services?limit=200",
    "/v1/capabilities",
    "/v1/models",
    "/v1/schedules",
    "/v1/audit?limit=200",
    "/v1/usage?group_by=service,capability,principal",
    "/metrics",
  ];
  for (const path of paths) {
    const { status, text } = await gateway.request("GET", path);
    assert.deepEqual([status, secretIn(text)], [200, undefined], path);
  }
  const { text } = await askLegacy(gateway, "tasks/list");
  assert.equal(secretIn(text), undefined);
});

/** Makes a call; returns its context and its response. */
async function makeOne(kind: Kind): Promise<[id: string, text: string]> {
  const { context, text } = await makeCall(gateway, services, kind);
  assert.ok(context && secretIn(text), `${nameOf(kind)}: ${text}`);
  return [context, text];
}

test("the_search_finds_content_that_is_kept", async () => {
  const kept: [Kind, string[]][] = [
    [{ flavour: "durable", act: "answers", client: "waits" }, ["parameter", "deep", "answer", "deep-answer"]],
    [{ flavour: "quick", act: "grows", client: "waits" }, ["large"]],
    [{ flavour: "queued", act: "swells", client: "modern" }, ["huge"]],
    [{ flavour: "durable", act: "fails", client: "listens" }, ["words", "detail"]],
    [{ flavour: "modern", act: "says", client: "modern" }, ["text", "structured", "link", "deep-meta", "ability"]],
    [{ flavour: "legacy", act: "chatters", client: "session" }, ["progress", "result-meta"]],
    [{ flavour: "chat", act: "completes", client: "waits" }, ["prompt", "reasoning"]],
  ];
  for (const [kind, places] of kept) {
    const [id] = await makeOne({ ...kind, at: "kept" });
    const { text } = await gateway.request("GET", `/v1/contexts/${id}`);
    assert.ok(secretIn(text), nameOf(kind));
    await eventually(() => filesWithSecrets(folder).length > 0);
    for (const place of places) assert.ok(isOnDisk(folder, planted(place)), `${place} of ${nameOf(kind)}`);
  }
  assert.ok(isOnDisk(folder, picture.slice(100, 130)));
  await eventually(() => hook.calls.some(({ raw }) => secretIn(raw)));
  for (const { socket, stream } of watched.slice(-1))
    for (const events of [socket.messages, stream.events]) assert.ok(secretIn(JSON.stringify(events)));
});
