// @ts-check
// Stands in for Cloudflare Queues: raw workerd turns `send` and `sendBatch` into requests to this service.
// A message is acknowledged at once and then delivered to the consumer, as with `max_batch_timeout = 0`: otherwise
// contexts that are started through the queue would never end. Messages are counted for the price.

/**
 * @typedef {{ id: string, timestamp: Date, attempts: number, serializedBody?: ArrayBuffer, body?: unknown }} Message
 * @typedef {{ QUEUE: string, BATCH: string, RETRIES: string,
 *   CONSUMER: { queue(name: string, messages: Message[]): Promise<any> } }} Env
 */

/** Plain data, so it may outlive its request. @type {Message[]} */
const waiting = [];
let counted = 0;

/** @param {string | null} format @param {ArrayBuffer} bytes @returns {Message} */
function message(format, bytes) {
  counted += 1;
  const common = { id: crypto.randomUUID(), timestamp: new Date(), attempts: 1 };
  if (format === "text") return { ...common, body: new TextDecoder().decode(bytes) };
  if (format === "json") return { ...common, body: JSON.parse(new TextDecoder().decode(bytes)) };
  if (format === "bytes") return { ...common, body: bytes };
  return { ...common, serializedBody: bytes };
}

/** @param {string} text */
const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;

/** @param {Env} env */
async function deliver(env) {
  // Messages of the same event-loop turn form one batch.
  await new Promise((resolve) => setTimeout(resolve, 0));
  while (waiting.length > 0) {
    const batch = waiting.splice(0, Number(env.BATCH));
    const outcome = await env.CONSUMER.queue(env.QUEUE, batch).catch(() => ({ outcome: "exception" }));
    const all = outcome.outcome !== "ok" || outcome.retryBatch?.retry;
    const again = new Set(
      (outcome.retryMessages ?? []).map((/** @type {{ msgId: string }} */ message) => message.msgId),
    );
    for (const one of batch) {
      if ((all || again.has(one.id)) && one.attempts <= Number(env.RETRIES))
        waiting.push({ ...one, attempts: one.attempts + 1 });
    }
  }
}

export default {
  /** @param {Request} request @param {Env} env @param {{ waitUntil(work: Promise<unknown>): void }} ctx */
  async fetch(request, env, ctx) {
    const path = new URL(request.url).pathname;
    if (path === "/counted") return Response.json({ messages: counted });
    if (path === "/batch") {
      const { messages } = await request.json();
      for (const one of messages) waiting.push(message(one.contentType ?? null, fromBase64(one.body)));
    } else {
      waiting.push(message(request.headers.get("X-Msg-Fmt"), await request.arrayBuffer()));
    }
    ctx.waitUntil(deliver(env));
    return Response.json({
      metadata: { metrics: { backlogCount: waiting.length, backlogBytes: 0, oldestMessageTimestamp: 0 } },
    });
  },
};
