// @ts-check
// The baseline of the model endpoints: a hand-written forwarder of chats, and the least that a Worker can do.

/** @typedef {{ KEY_SHA256: string, PROVIDER: string, PROVIDER_KEY: string }} Env */

const NEWLINE = 10;
/** `data:` */
const DATA = [100, 97, 116, 97, 58];

/** The digest of the one key. @type {Uint8Array | undefined} */
let known;

/** Whether the request has the key whose digest is known. @param {Request} request @param {Env} env */
async function isKnown(request, env) {
  const [scheme, key = ""] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme !== "Bearer") return false;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)));
  known ??= Uint8Array.from(env.KEY_SHA256.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
  return known.length === digest.length && crypto.subtle.timingSafeEqual(digest, known);
}

/** @param {Request} request @param {Env} env */
const call = (request, env) =>
  fetch(`${env.PROVIDER}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${env.PROVIDER_KEY}` },
    body: request.body,
  });

/** Counts lines that begin with `data:`, wherever the pieces end. */
class DataLines {
  count = 0;
  /** How much of `data:` the present line has begun with; -1 if with something else. */
  #matched = 0;

  /** @param {Uint8Array} piece */
  see(piece) {
    let at = 0;
    while (at < piece.length) {
      if (this.#matched < 0) {
        const end = piece.indexOf(NEWLINE, at);
        if (end < 0) return;
        this.#matched = 0;
        at = end + 1;
      } else if (piece[at] === DATA[this.#matched]) {
        this.#matched += 1;
        at += 1;
        if (this.#matched < DATA.length) continue;
        this.count += 1;
        this.#matched = -1;
      } else if (piece[at] === NEWLINE) {
        this.#matched = 0;
        at += 1;
      } else this.#matched = -1;
    }
  }
}

/** The lines of all responses. */
let counted = 0;

/** @param {ReadableStream<Uint8Array>} from @param {WritableStream<Uint8Array>} to */
async function pass(from, to) {
  const lines = new DataLines();
  const reader = from.getReader();
  const writer = to.getWriter();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    lines.see(value);
    await writer.write(value);
  }
  counted += lines.count;
  await writer.close();
}

/**
 * Authenticates, forwards, and passes each piece of the response on.
 * @param {Request} request @param {Env} env @param {ExecutionContext} ctx
 */
export async function forward(request, env, ctx) {
  if (!(await isKnown(request, env))) return Response.json({ error: { message: "Unknown key." } }, { status: 401 });
  const response = await call(request, env);
  const headers = { "content-type": response.headers.get("content-type") ?? "application/json" };
  if (!response.body) return new Response(null, { status: response.status, headers });
  const { readable, writable } = new IdentityTransformStream();
  ctx.waitUntil(pass(response.body, writable));
  return new Response(readable, { status: response.status, headers });
}

/** The floor: the platform passes the response on, and no code sees it. @param {Request} request @param {Env} env */
export const passThrough = (request, env) => call(request, env);
