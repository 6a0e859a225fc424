// @ts-check
// A service: two capabilities behind one URL, with signed requests. Needs only Node 20 or newer.
//
//   SIGNING_SECRET=whsec_… PORT=9000 node examples/service.mjs
//
// SIGNING_SECRET is the secret the service was registered with; two, separated by a space, while it is rotated.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

/** The capabilities: parameters in, result out. The gateway has validated the parameters against the schema. */
const capabilities = {
  word_count: (/** @type {{text: string}} */ { text }) => ({
    words: text.split(/\s+/u).filter(Boolean).length,
    characters: [...text].length,
    lines: text === "" ? 0 : text.split("\n").length,
  }),
  shout: (/** @type {{text: string}} */ { text }) => ({ text: `${text.toUpperCase()}!` }),
};

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 1024 * 1024;

/** `whsec_` and base64: the key is the decoded base64. */
const keys = (process.env.SIGNING_SECRET ?? "")
  .split(/\s+/)
  .filter((secret) => secret.startsWith("whsec_"))
  .map((secret) => Buffer.from(secret.slice("whsec_".length), "base64"));

/**
 * Whether the gateway sent this recently (Standard Webhooks 1.0).
 * @param {import("node:http").IncomingHttpHeaders} headers @param {Buffer} body
 */
export function isGenuine(headers, body) {
  const id = String(headers["webhook-id"] ?? "");
  const timestamp = String(headers["webhook-timestamp"] ?? "");
  const age = Date.now() / 1000 - Number(timestamp);
  if (id === "" || !/^\d+$/.test(timestamp) || Math.abs(age) > TOLERANCE_SECONDS) return false;
  const expected = keys.map((key) => createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest());
  return String(headers["webhook-signature"] ?? "")
    .split(" ")
    .some((signature) => {
      const given = Buffer.from(signature.startsWith("v1,") ? signature.slice(3) : "", "base64");
      // Compared in constant time, so that timing does not reveal where they differ.
      return expected.some((right) => right.length === given.length && timingSafeEqual(right, given));
    });
}

/** An error of the work itself. `retryable`: another attempt may succeed. */
const failure = (/** @type {string} */ code, /** @type {string} */ message, retryable = false) => ({
  error: { code, message, retryable },
});

/** @param {Buffer} body */
function work(body) {
  const { context_id, capability, attempt, parameters } = JSON.parse(body.toString());
  console.log(`${context_id} ${capability}, attempt ${attempt}`);
  if (!Object.hasOwn(capabilities, capability)) return failure("unknown_capability", `There is no ${capability} here.`);
  try {
    return { result: capabilities[/** @type {keyof typeof capabilities} */ (capability)](parameters) };
  } catch (error) {
    console.error(error);
    return failure("failed", "The work failed.");
  }
}

/** The body, or undefined if it is too large. @param {import("node:http").IncomingMessage} request */
export async function read(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const server = createServer(async (request, response) => {
  const answer = (/** @type {number} */ status, /** @type {unknown} */ value) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  try {
    if (request.method === "GET") return answer(200, { status: "ok" });
    if (request.method !== "POST") return answer(405, failure("method_not_allowed", "Send work by POST."));
    const body = await read(request);
    if (body === undefined) return answer(413, failure("too_large", "The body is too large."));
    if (!isGenuine(request.headers, body)) return answer(401, failure("bad_signature", "The signature is not valid."));
    answer(200, work(body));
  } catch (error) {
    console.error(error);
    response.destroy();
  }
});

/** Serves until SIGTERM. @param {import("node:http").Server} server */
export function serve(server) {
  if (keys.length === 0) {
    console.error("SIGNING_SECRET is not set: give the secret the service is registered with, whsec_…");
    process.exit(1);
  }
  server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    console.log(`listening on http://127.0.0.1:${port}/`);
  });
  process.on("SIGTERM", () => {
    // Running requests finish; idle connections are closed.
    server.close();
    server.closeIdleConnections();
  });
}

// Not when another module only imports from this one.
if (process.argv[1] === fileURLToPath(import.meta.url)) serve(server);
