// @ts-check
// The model endpoints: what is asked of a chat, and what its answer must say.

/**
 * @typedef {import("./targets.mjs").Target} Target
 * @typedef {import("./client.mjs").RequestSpec} RequestSpec
 * @typedef {import("./tally.mjs").Expectation} Expectation
 */

/** The key that the provider accepts, and only it. */
export const PROVIDER_KEY = "sk-of-the-provider-of-the-benchmark";
/** How a request tells the provider its kind, the number of pieces and the pause between them in ms. */
export const WISH = /"user":"(whole|stream) (\d+) (\d+)"/;

/** The pieces of a long stream, of a short one, and of one with pauses. */
export const PIECES = 1000;
/** Long streams at once: the rounds are long enough for several of each. */
export const STREAMS = 8;
export const FEW_PIECES = 5;
export const PACED_PIECES = 100;
/** The time between the beginnings of two short streams, in ms. */
export const APART_MS = 20;
/** The pause between two events, in ms, and the streams at once. */
export const PAUSE_MS = 5;
export const PACED_STREAMS = 8;
/** The picture of a large request, in bytes, and the requests at once: the gateway holds no more than 48 MiB. */
const PICTURE_BYTES = 5 * 1024 * 1024;
export const PICTURES = 4;

const PROMPT =
  "Say in two sentences why a gateway that answers quickly is worth more than one that does more, and for whom it is " +
  "not; then stop and say nothing else, please.";

/** The provider counts the request's bytes as tokens: so an answer shows that all of it has come. */
export const usage = (/** @type {number} */ bytes, /** @type {number} */ pieces) => ({
  prompt_tokens: bytes,
  completion_tokens: pieces,
  total_tokens: bytes + pieces,
});

/** A data URL of random digits in base64: no two requests' scanners find a shortcut in it. */
function picture() {
  const bytes = Buffer.alloc((PICTURE_BYTES * 3) / 4);
  let state = 1;
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return `data:image/png;base64,${bytes.toString("base64")}`;
}

/** @typedef {{ request(target: Target): RequestSpec, expect: Expectation }} Exchange */

/**
 * @param {"whole" | "stream"} kind @param {number} pieces @param {number} pauseMs @param {unknown} content
 * @returns {Exchange}
 */
function exchange(kind, pieces, pauseMs, content) {
  const streams = kind === "stream";
  const body = JSON.stringify({
    model: "bench",
    user: `${kind} ${pieces} ${pauseMs}`,
    ...(streams && { stream: true, stream_options: { include_usage: true } }),
    messages: [{ role: "user", content }],
  });
  const says = `"usage":${JSON.stringify(usage(Buffer.byteLength(body), pieces))}}`;
  return {
    request: (target) => ({ method: "POST", path: target.chatPath, headers: target.headers, body }),
    // Behind the pieces come the usage and the end marker.
    expect: streams ? { ends: `${says}\n\ndata: [DONE]\n\n`, events: pieces + 2 } : { ends: says },
  };
}

export const chat = exchange("whole", 51, 0, PROMPT);
export const stream = exchange("stream", PIECES, 0, PROMPT);
export const shortStream = exchange("stream", FEW_PIECES, 0, PROMPT);
export const pacedStream = exchange("stream", PACED_PIECES, PAUSE_MS, PROMPT);

/** @type {Exchange | undefined} */
let large;
/** Made when it is needed: it takes a while. */
export const withPicture = () =>
  (large ??= exchange("whole", 51, 0, [
    { type: "text", text: PROMPT },
    { type: "image_url", image_url: { url: picture() } },
  ]));

/** Registers the provider at a gateway, and tries it. @param {Target} target @param {number} providerPort */
export async function offerModels(target, providerPort) {
  const url = `http://127.0.0.1:${target.port}`;
  const json = { "content-type": "application/json" };
  const response = await fetch(`${url}/v1/services/provider`, {
    method: "PUT",
    headers: { ...target.admin, ...json },
    body: JSON.stringify({
      name: "Provider",
      type: "llm",
      transport: { kind: "openai", url: `http://127.0.0.1:${providerPort}/v1` },
      credentials: { headers: { Authorization: `Bearer ${PROVIDER_KEY}` } },
      models: [{ id: "bench", prices: { currency: "USD", input: "0.25", output: "2.00", as_of: "2026-11-01" } }],
    }),
  });
  if (response.status !== 201)
    throw new Error(`the provider could not be registered: ${response.status} ${await response.text()}`);
  const { path, headers, body = "" } = chat.request(target);
  const answer = await fetch(url + path, { method: "POST", headers: { ...headers, ...json }, body });
  if (answer.status !== 200) throw new Error(`a chat was answered ${answer.status} ${await answer.text()}`);
}
