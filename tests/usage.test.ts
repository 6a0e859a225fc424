// Usage: counted exactly once, whichever component fails; grouped as requested; readable by Prometheus.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  eventually,
  makeKey,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { readOpenMetrics } from "./support/openmetrics.ts";
import { json, type Service, slow, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let failing: Service;
/** Whose context was one of five. */
let other: string;

before(async () => {
  gateway = await startGateway();
  service = await startService(slow(20));
  failing = await startService(status(500));
  await register(gateway, "worker", serviceAt(service.url));
  await register(gateway, "broken", serviceAt(failing.url, [{ name: "break", idempotent: true }]));
  const { id, secret } = await makeKey(gateway, "caller");
  other = `key:${id}`;
  const ids: string[] = [];
  for (let count = 0; count < 3; count++) ids.push((await create(gateway)).json.id);
  ids.push((await create(gateway, {}, { key: secret })).json.id);
  ids.push((await create(gateway, { capability: "break" })).json.id);
  // Reading a context's events publishes them to the log.
  for (const id of ids) await gateway.request("GET", `/v1/contexts/${id}/events`);
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service, failing].map((one) => one?.stop()));
});

const usage = async (query = "") => {
  const answer = await gateway.request("GET", `/v1/usage${query}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.json.data;
};

test("everything_is_counted_once", async () => {
  for (let turn = 0; turn < 2; turn++) {
    const [all, ...more] = await usage();
    assert.equal(more.length, 0);
    const { created, completed, failed, attempts, failed_attempts, latency_ms, cost, from, service } = all;
    assert.deepEqual([created, completed, failed, attempts, failed_attempts], [5, 4, 1, 7, 3]);
    assert.deepEqual([from, service], [null, null]);
    assert.ok(
      latency_ms.p50 >= 20 && latency_ms.p95 >= latency_ms.p50 && latency_ms.p99 >= latency_ms.p95,
      JSON.stringify(latency_ms),
    );
    assert.deepEqual(cost, { rows_written: 14, object_requests: 12, usd: (14 + 12 * 0.15) / 1e6 });
    // The counts and their position outlive the hub.
    await gateway.evict("EventHub", "default");
  }
});

test("usage_is_grouped_as_requested", async () => {
  const services = await usage("?group_by=service");
  assert.deepEqual(
    services.map(({ service, created }: any) => [service, created]),
    [
      ["broken", 1],
      ["worker", 4],
    ],
  );
  const principals = await usage("?group_by=principal,capability&bucket=day");
  assert.deepEqual(
    principals.map(({ principal, capability, created }: any) => [principal, capability, created]).sort(),
    [
      ["key:admin", "break", 1],
      ["key:admin", "work", 3],
      [other, "work", 1],
    ].sort(),
  );
  assert.ok(principals.every(({ from }: any) => from.endsWith("T00:00:00.000Z")));
  assert.deepEqual(await usage("?after=2020-01-01T00:00:00Z&before=2020-01-02T00:00:00Z"), []);
  const [hour] = await usage("?bucket=hour");
  assert.match(hour.from, /:00:00\.000Z$/);
});

test("a_wrong_question_reports_every_fault", async () => {
  const ask = (query: string) => gateway.request("GET", `/v1/usage?${query}`);
  const wrong = await ask("group_by=colour&bucket=week&after=x");
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), ["?after", "?bucket", "?group_by"]);
  refused(await ask("after=2020-01-01T00:00:00Z"), 422, "validation_failed");
  refused(await ask("colour=red"), 422, "validation_failed");
});

test("a_running_context_is_counted_when_it_ends", async () => {
  const before = (await usage())[0];
  const { id } = await accepted(gateway);
  await ended(gateway, id);
  await gateway.request("GET", `/v1/contexts/${id}/events`);
  const after = (await usage())[0];
  assert.deepEqual([after.created - before.created, after.completed - before.completed], [1, 1]);
});

test("requests_that_were_refused_are_counted_by_the_code_of_the_answer", async () => {
  const read = async () => {
    const { text } = await gateway.request("GET", "/metrics");
    const samples = readOpenMetrics(text).get("narthex_requests_refused")!.samples;
    return new Map(samples.map(({ labels, value }) => [labels.get("code"), value]));
  };
  const before = await read();
  for (let turn = 0; turn < 3; turn++) refused(await gateway.request("GET", "/v1/contexts/none"), 404, "not_found");
  refused(await gateway.request("GET", "/v1/usage", { key: null }), 401, "unauthenticated");
  const after = await read();
  // Reported with the next request, and on reading.
  assert.equal(after.get("not_found")! - (before.get("not_found") ?? 0), 3);
  assert.equal(after.get("unauthenticated")! - (before.get("unauthenticated") ?? 0), 1);
  await gateway.evict("EventHub", "default");
  assert.deepEqual(await read(), after);
});

test("metrics_are_strict_openmetrics_and_say_why_things_failed", async () => {
  const { text } = await gateway.request("GET", "/metrics");
  const families = readOpenMetrics(text);
  const count = (name: string, more: Record<string, string>) =>
    families
      .get(name)!
      .samples.find(({ labels }) => Object.entries(more).every(([label, value]) => labels.get(label) === value))?.value;
  const broken = { service: "broken", capability: "break" };
  assert.equal(count("narthex_context_errors", { ...broken, code: "upstream_error" }), 1);
  assert.equal(count("narthex_attempt_errors", { ...broken, code: "upstream_error" }), 3);
  assert.equal(count("narthex_context_errors", { service: "worker" }), undefined);
  const [all] = await usage();
  assert.deepEqual(all.errors, { upstream_error: 1 });
  for (const wrong of [
    text.replace("# EOF\n", ""),
    text.replace("narthex_attempts_total{", "narthex_attempts{"),
    text.replace(/le="\+Inf"\} \d+/, 'le="+Inf"} 99'),
    text.replace(/(narthex_contexts_created_total.*\n)/, "$1$1"),
    text.replace('service="', "service='"),
  ]) {
    assert.throws(() => readOpenMetrics(wrong));
  }
});

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0;

test(
  "promtool_finds_nothing_wrong_with_the_older_format",
  { skip: !hasPromtool && "apt install prometheus" },
  async () => {
    const { headers, text } = await gateway.request("GET", "/metrics", { headers: { accept: "text/plain" } });
    assert.equal(headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
    assert.deepEqual([status, stdout, stderr], [0, "", ""], text);
  },
);

const python = process.env.PYTHON ?? "python3";
const hasParser = spawnSync(python, ["-c", "import prometheus_client.openmetrics.parser"]).status === 0;

test("prometheus_reads_the_metrics_with_a_key_that_reads_usage", async () => {
  refused(await gateway.request("GET", "/metrics", { key: null }), 401, "unauthenticated");
  refused(
    await gateway.request("GET", "/metrics", { key: (await makeKey(gateway, "caller")).secret }),
    403,
    "permission_denied",
  );
  const { secret } = await makeKey(gateway, "bare", ["usage:read"]);
  const { status, headers, text } = await gateway.request("GET", "/metrics", { key: secret });
  assert.equal(status, 200, text);
  assert.equal(headers.get("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
  for (const line of [
    'narthex_contexts_created_total{service="broken",capability="break"} 1',
    'narthex_contexts_ended_total{service="broken",capability="break",status="failed"} 1',
    'narthex_attempts_total{service="broken",capability="break",outcome="failed"} 3',
    'narthex_context_latency_seconds_bucket{service="broken",capability="break",le="+Inf"} 1',
  ]) {
    assert.ok(text.split("\n").includes(line), `${line} in\n${text}`);
  }
  assert.ok(text.endsWith("\n# EOF\n"));
  if (!hasParser) return;
  const parse =
    "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as read; " +
    "print(' '.join(sorted(family.name for family in read(sys.stdin.read()))))";
  const read = spawnSync(python, ["-c", parse], { input: text, encoding: "utf8" });
  assert.equal(
    read.stdout.trim(),
    "narthex_attempt_errors narthex_attempts narthex_context_errors narthex_context_latency_seconds " +
      "narthex_context_queue_seconds narthex_contexts_created narthex_contexts_ended narthex_requests_refused",
    read.stderr,
  );
});

const tokens = { input: 100, cached_input: 0, cache_write: 0, output: 10, reasoning: 0 };
const talks = json({
  choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 100, completion_tokens: 10 },
});

/** Ends two calls of models, of which one has a configured name, by a caller. */
async function useModels(gateway: Gateway): Promise<void> {
  const { secret } = await makeKey(gateway, "caller");
  for (const model of ["small", "gpt/made-up"]) {
    const body = { model, messages: [{ role: "user", content: "Hi" }] };
    const answer = await gateway.request("POST", "/v1/chat/completions", { key: secret, body });
    assert.equal(answer.status, 200, answer.text);
  }
}

test("usage_is_grouped_by_role_and_model_and_outlives_an_earlier_version", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "narthex-usage-"));
  const provider = await startService(talks, { probe: json({ data: [] }) });
  t.after(async () => {
    await provider.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const start = () => startGateway({ persist: folder, vars: { ADMIN_KEY: "a key that outlives the restart" } });
  const groups = async (gateway: Gateway) => {
    const { json } = await gateway.request("GET", "/v1/usage?group_by=role,model,service");
    return json.data.map((group: any) => [group.role, group.model, group.completed, group.tokens, group.spend]);
  };
  const other = ["caller", "*", 1, tokens, []];
  const small = ["caller", "small", 1, tokens, [{ amount: "0.0002", currency: "USD", estimated: "0.00" }]];
  let gateway = await start();
  try {
    const prices = { currency: "USD", input: "1", output: "10" };
    const models = [{ id: "small", prices }, { id: "*" }];
    const transport = { kind: "openai", url: `${provider.url}v1` };
    await register(gateway, "gpt", { name: "A provider", type: "llm", transport, models });
    await useModels(gateway);
    await eventually(async () => (await groups(gateway)).length === 2);
    assert.deepEqual(await groups(gateway), [other, small]);
    const { text } = await gateway.request("GET", "/metrics");
    const spend = readOpenMetrics(text).get("narthex_spend")!.samples;
    assert.deepEqual(
      spend.map(({ labels, value }) => [labels.get("model"), labels.get("part"), value]),
      [
        ["small", "all", 0.0002],
        ["small", "estimated", 0],
      ],
    );
    await gateway.stop();
    // The table of an earlier version, which knows neither parts nor tokens.
    databases(folder, "EventHub", "usage", (database) => {
      database.exec("ALTER TABLE usage DROP COLUMN parts");
      database.exec("UPDATE usage SET counts = json_remove(counts, '$.tokens', '$.spend', '$.counts_spend')");
    });
    gateway = await start();
    assert.deepEqual(await groups(gateway), [[null, null, 2, null, null]]);
    await useModels(gateway);
    await eventually(async () => (await groups(gateway)).length === 3);
    assert.deepEqual(await groups(gateway), [[null, null, 2, null, null], other, small]);
  } finally {
    await gateway.stop();
  }
});
