// Clients that stop in the middle, on separate sockets: each is eventually refused, without delaying others.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accepted, create, eventually, register, serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { Contract, formatOf } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService, status } from "./support/service.ts";

let service: Service;
/** Bodies have a second to arrive. */
let hasty: Gateway;
/** Bodies have five minutes. */
let patient: Gateway;

before(async () => {
  service = await startService();
  service.handler = (call, response) => (call.json.capability === "later" ? status(202) : echo)(call, response);
  const vars = { OAUTH: "true", OAUTH_REGISTRATION: "true" };
  hasty = await startGateway({ vars: { ...vars, BODY_TIMEOUT_MS: "1000" } });
  patient = await startGateway({ vars: { ...vars, BODY_TIMEOUT_MS: "300000" } });
  for (const gateway of [hasty, patient]) {
    await register(gateway, "worker", serviceAt(service.url, [{}, { name: "later" }]));
  }
});
after(async () => {
  await hasty?.stop();
  await patient?.stop();
  await service?.stop();
});

type Slow = { socket: Socket; text: () => string; closed: () => boolean };

/** A connection that has sent this much of a request, and may send more. */
async function begin(gateway: Gateway, text: string): Promise<Slow> {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  let [received, closed] = ["", false];
  socket.on("data", (data) => void (received += data));
  // A gateway that closes during a write causes an error here, then a close.
  socket.on("error", () => {});
  socket.on("close", () => void (closed = true));
  await new Promise<void>((resolve) => socket.write(text, () => resolve()));
  return { socket, text: () => received, closed: () => closed };
}

const head = (gateway: Gateway, method: string, path: string, type: string, length: string) =>
  `${method} ${path} HTTP/1.1\r\nHost: ${new URL(gateway.url).host}\r\nAuthorization: Bearer ${gateway.adminKey}\r\n` +
  `Content-Type: ${type}\r\nIf-Match: *\r\n${length}\r\n\r\n`;

/** The response on a socket once it is complete. */
async function answerOn(slow: Slow): Promise<{ status: number; headers: Headers; body: string }> {
  return await eventually(() => {
    const [top, body] = slow.text().split("\r\n\r\n", 2);
    if (top === undefined || body === undefined) return undefined;
    const [line, ...lines] = top.split("\r\n");
    const headers = new Headers(lines.map((one) => one.split(/: */, 2) as [string, string]));
    const whole = Buffer.byteLength(body) === Number(headers.get("content-length"));
    return whole ? { status: Number(line!.split(" ")[1]), headers, body } : undefined;
  });
}

/** Sends a byte every 50 ms until the connection is closed. */
function drip({ socket, closed }: Slow, byte: string): void {
  const timer = setInterval(() => (closed() ? clearInterval(timer) : socket.write(byte)), 50);
  timer.unref();
}

const openapi = JSON.parse(readFileSync(join(root, "console/openapi.json"), "utf8"));
const withBody = Object.entries<any>(openapi.paths).flatMap(([path, item]) =>
  Object.entries<any>(item)
    .filter(([, operation]) => operation.requestBody)
    .map(([method, operation]) => ({ method, path, type: Object.keys(operation.requestBody.content)[0]! })),
);

test("a_body_that_stops_coming_is_refused_with_408_wherever_one_is_read", async () => {
  const calls = service.calls.length;
  await accepted(hasty, { capability: "later" });
  const { pathname: callback } = new URL((await service.call(calls)).json.callback_url);
  await Promise.all(
    withBody.map(async ({ method, path, type }) => {
      const there = path.replace(/\/v1\/callbacks\/\{token\}/, callback).replace(/\{\w+\}/, "worker");
      const slow = await begin(hasty, `${head(hasty, method.toUpperCase(), there, type, "Content-Length: 100")}{`);
      const { status, headers, body } = await answerOn(slow);
      assert.equal(status, 408, `${method} ${there}: ${body}`);
      Contract.load()!.checkAnswer(method.toUpperCase(), there, status, headers, body);
      const format = formatOf(there);
      const code = headers.get("content-type")!.startsWith("text/html") ? "page" : JSON.parse(body);
      if (path === "/oauth/authorize") assert.equal(code, "page");
      else if (path.startsWith("/oauth/")) assert.equal(code.error, "request_timeout");
      else if (path.startsWith("/mcp")) assert.equal(code.error.data.code, "request_timeout", body);
      else if (format === "OpenAI") assert.equal(code.error.code, "request_timeout", body);
      else if (format === "Anthropic") assert.equal(code.error.type, "timeout_error", body);
      else assert.equal(code.code, "request_timeout");
      // The rest of the body must not become part of another request.
      await eventually(slow.closed);
    }),
  );
});

test("a_body_that_drips_endlessly_is_refused_like_one_that_stops", async () => {
  for (const [length, byte] of [
    ["Content-Length: 100000", " "],
    ["Transfer-Encoding: chunked", "1\r\n \r\n"],
  ] as const) {
    const slow = await begin(hasty, head(hasty, "POST", "/v1/contexts", "application/json", length));
    drip(slow, byte);
    const { status, body } = await answerOn(slow);
    assert.deepEqual([status, JSON.parse(body).code], [408, "request_timeout"]);
    slow.socket.destroy();
  }
});

test("a_body_that_comes_slowly_but_in_time_is_served", async () => {
  const content = '{"capability":"work"}';
  const length = `Content-Length: ${content.length}`;
  const slow = await begin(patient, head(patient, "POST", "/v1/contexts", "application/json", length));
  for (const byte of content) {
    await new Promise<void>((resolve) => slow.socket.write(byte, () => setImmediate(resolve)));
  }
  assert.equal((await answerOn(slow)).status, 200);
  slow.socket.destroy();
});

test("a_hundred_stalled_clients_delay_no_others", async () => {
  const starts = [
    "POST /v1/contexts HT",
    `POST /v1/contexts HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bear`,
    `${head(patient, "POST", "/v1/contexts", "application/json", "Content-Length: 1000")}{"capability":`,
    `${head(patient, "POST", "/v1/contexts", "application/json", "Transfer-Encoding: chunked")}ff\r\n{"cap`,
    `${head(patient, "POST", "/oauth/token", "application/x-www-form-urlencoded", "Content-Length: 9000")}grant_type=`,
  ];
  const slow = await Promise.all(Array.from({ length: 100 }, (_, at) => begin(patient, starts[at % starts.length]!)));
  for (const one of slow.slice(0, 20)) drip(one, "a");
  for (let at = 0; at < 20; at++) {
    assert.equal((await create(patient)).json.status, "completed");
    assert.equal((await patient.request("GET", "/v1/whoami")).status, 200);
  }
  // The gateway waits for them all that time.
  const waiting = slow.filter((one, at) => at % starts.length > 1 && one.text() === "" && !one.closed());
  assert.equal(waiting.length, 60);
  for (const { socket } of slow) socket.destroy();
  assert.equal((await create(patient)).json.status, "completed");
});

test("a_header_block_of_more_than_32_KiB_is_refused_on_a_socket_too", async () => {
  const long = `GET /v1/whoami HTTP/1.1\r\nHost: gateway\r\nX-Long: ${"a".repeat(33 * 1024)}\r\n\r\n`;
  const slow = await begin(patient, long);
  const { status, body } = await answerOn(slow);
  assert.deepEqual([status, JSON.parse(body).code], [431, "header_too_large"]);
  slow.socket.destroy();
});
