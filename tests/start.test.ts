// `npm start` as users run it: its output, and that it keeps serving whatever a client does and whichever process dies.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { PATIENCE_MS } from "./support/patience.ts";
import { children } from "./support/processes.ts";
import { openEvents } from "./support/socket.ts";
import { startService } from "./support/service.ts";

const folder = mkdtempSync(join(tmpdir(), "narthex-start-"));
const adminKey = randomBytes(32).toString("base64url");
const secrets = join(folder, "secrets.env");
writeFileSync(secrets, `ADMIN_KEY=${adminKey}\nKEK_1=${randomBytes(32).toString("base64")}\nALLOW_LOOPBACK=true\n`);

let child: ChildProcess;
let said = "";
let url = "";

const headers = { authorization: `Bearer ${adminKey}`, "content-type": "application/json" };
const OVER_A_MIB = "x".repeat(1024 * 1024 + 37);

/** Waits until it has printed something. */
async function printed(pattern: RegExp, since = 0): Promise<RegExpMatchArray> {
  for (const end = Date.now() + PATIENCE_MS; ; await pause(50)) {
    const found = said.slice(since).match(pattern);
    if (found) return found;
    assert.ok(Date.now() < end && child.exitCode === null, `${pattern} was not printed, but:\n${said}`);
  }
}

before(async () => {
  // Serves the build of the earlier tests.
  child = spawn(
    process.execPath,
    ["scripts/start.mjs", "--port", "0", "--persist-to", join(folder, "state"), "--env-file", secrets],
    {
      cwd: root,
      env: { ...process.env, NARTHEX_BUILD: "none" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  url = (await printed(/Ready on (http:\/\/[\d.:]+)/))[1]!;
  await printed(/whoami .*\n/);
});
after(async () => {
  if (child.exitCode === null) child.kill("SIGTERM");
  await Promise.race([once(child, "exit"), pause(5000)]);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
});

/** Asserts that nothing has died: one request on a connection that may be broken, one a while later. */
async function serves(after: string, since = 0): Promise<void> {
  for (const wait of [0, 400]) {
    await pause(wait);
    const answer = await fetch(`${url}/health`);
    assert.equal(answer.status, 200, `after ${after}: ${await answer.text()}\n${said.slice(-2000)}`);
    await answer.arrayBuffer().catch(() => {});
  }
  assert.doesNotMatch(said.slice(since), /started again/, after);
}

test("its_output_can_be_pasted_and_has_no_warnings", async () => {
  const lines = said.slice(said.indexOf("Ready on"));
  const [, exported, curl] = lines.match(/^ {2}(export ADMIN_KEY=.*)\n {2}(curl .*)$/m)!;
  const answer = execFileSync("sh", ["-c", `${exported}\n${curl}`], { cwd: root, encoding: "utf8" });
  assert.equal(JSON.parse(answer).role, "admin");
  assert.doesNotMatch(
    said,
    /WARNING|not automatically triggered|changed, restarting|access to the following bindings|custom build/,
  );
  // The Worker's own log.
  await printed(/^\{.*"path":"\/v1\/whoami","status":200.*\}$/m);
});

test("bodies_that_are_refused_unread_end_nothing", async () => {
  const post = async (path: string, body: string, more = {}) =>
    (await fetch(`${url}${path}`, { method: "POST", headers: { ...headers, ...more }, body })).status;
  for (let time = 0; time < 3; time++) {
    assert.equal(await post("/v1/contexts", OVER_A_MIB), 413);
    await serves("a body over 1 MiB");
  }
  assert.equal(await post("/v1/contexts", OVER_A_MIB, { authorization: "Bearer unknown" }), 401);
  await serves("one without credentials");
  assert.equal(await post("/health", OVER_A_MIB.repeat(20)), 405);
  await serves("20 MiB for a path that takes none");
  assert.equal(await post("/v1/callbacks/none", OVER_A_MIB.repeat(12)), 404);
  await serves("12 MiB for a callback that is not known");
  const many = await Promise.all(Array.from({ length: 20 }, () => post("/v1/contexts", OVER_A_MIB)));
  assert.deepEqual([...new Set(many)], [413]);
  await serves("twenty at once");
});

test("clients_that_leave_in_the_middle_end_nothing", async () => {
  /** Sends the head of a request, waits for this status, sends the rest, and disconnects. */
  const leave = async (head: string, status: number, rest = "") => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`${head}\r\nHost: x\r\nAuthorization: Bearer ${adminKey}\r\nContent-Type: application/json\r\n\r\n`);
    const [answer] = await once(socket, "data");
    assert.match(String(answer), new RegExp(`^HTTP/1.1 ${status} `));
    await new Promise<void>((resolve) => socket.write(rest, () => resolve()));
    socket.resetAndDestroy();
  };
  const posts = "POST /v1/contexts HTTP/1.1\r\nExpect: 100-continue";
  await leave(`${posts}\r\nContent-Length: 500000`, 100, '{"capability":"');
  await serves("a body that broke off");
  await leave(`${posts}\r\nTransfer-Encoding: chunked`, 100, '5\r\n{"a":\r\n');
  await serves("a chunked body that broke off");
  await leave("GET /v1/events HTTP/1.1\r\nAccept: text/event-stream", 200);
  await serves("a stream that was left");
  const events = await openEvents({ url, adminKey });
  events.socket.terminate();
  await serves("a socket that was lost");
});

test("a_killed_wrangler_is_restarted_with_the_same_address_and_state", async () => {
  const service = await startService();
  try {
    const registered = await fetch(`${url}/v1/services/kept`, {
      method: "PUT",
      headers,
      body: JSON.stringify(serviceAt(service.url, [{ name: "echo" }])),
    });
    assert.equal(registered.status, 201, await registered.text());
    const descends = () => children(child.pid!);
    const [wrangler] = descends();
    const everything = below(wrangler!);
    assert.ok(everything.length > 2, "wrangler has workerd below it");
    const since = said.length;
    process.kill(wrangler!, "SIGKILL");
    await printed(/started again/, since);
    // Not refused: it waits until the next one serves.
    const kept = await fetch(`${url}/v1/services/kept`, { headers });
    assert.equal(kept.status, 200, await kept.text());
    await printed(/Ready again on/, since);
    await ended(everything);
    assert.equal(descends().length, 1);
    const made = await fetch(`${url}/v1/contexts`, {
      method: "POST",
      headers,
      body: JSON.stringify({ capability: "echo" }),
    });
    assert.equal(made.status, 200, await made.text());
  } finally {
    await service.stop();
  }
});

test("a_second_one_does_not_affect_the_first_and_prints_its_own_address", async () => {
  const configuration = join(root, ".wrangler/development/wrangler.json");
  const written = () => {
    const { ino, mtimeMs } = statSync(configuration);
    return { ino, mtimeMs };
  };
  const [before, since] = [written(), said.length];
  // It gets as far as wrangler, which rejects the last argument.
  const args = [
    "--ip",
    "*",
    "--port",
    "0",
    "--persist-to",
    join(folder, "second"),
    "--env-file",
    secrets,
    "--no-such-argument",
  ];
  const second = spawn(process.execPath, ["scripts/start.mjs", ...args], {
    cwd: root,
    env: { ...process.env, NARTHEX_BUILD: "none" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  for (const stream of [second.stdout, second.stderr])
    stream.setEncoding("utf8").on("data", (text) => (printed += text));
  const [code] = await once(second, "close");
  assert.equal(code, 1, printed);
  assert.match(printed, /starting on http:\/\/127\.0\.0\.1:\d+ /);
  assert.match(printed, /[Uu]nknown argument/);
  assert.deepEqual(written(), before);
  await serves("a second one", since);
});

test("an_address_in_use_is_reported_and_all_its_processes_exit", async () => {
  const second = spawn(process.execPath, ["scripts/start.mjs", "--port", new URL(url).port, "--env-file", secrets], {
    cwd: root,
    env: { ...process.env, NARTHEX_BUILD: "none" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let complaint = "";
  second.stderr.setEncoding("utf8").on("data", (text) => (complaint += text));
  const [code] = await once(second, "close");
  assert.equal(code, 1);
  assert.match(complaint, /address is in use; choose another with `npm start -- --port 8790`/);

  const everything = below(child.pid!);
  child.kill("SIGTERM");
  await once(child, "exit");
  await ended(everything);
});

/** Waits until none of these runs; zombies do not count. */
async function ended(pids: number[]): Promise<void> {
  const runs = (pid: number) => {
    try {
      process.kill(pid, 0);
      return process.platform !== "linux" || !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
    } catch {
      return false;
    }
  };
  for (const end = Date.now() + PATIENCE_MS; pids.some(runs); await pause(50))
    assert.ok(Date.now() < end, `left running: ${pids.filter(runs)}`);
}
/** The processes and all their descendants. */
function below(pid: number): number[] {
  return children(pid).flatMap((one) => [one, ...below(one)]);
}
