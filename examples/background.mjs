// @ts-check
// A long-running service: it answers 202, reports its progress, and sends its result to the callback. Before a large
// job it requests input. Needs only Node 20 or newer.
//
//   SIGNING_SECRET=whsec_… PORT=9000 node examples/background.mjs
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { isGenuine, read, serve } from "./service.mjs";

const MANY = 20;
/** The lease: without a report within this time, the gateway gives the work up. */
const LEASE_SECONDS = 10;

/** The work in progress, by context: a DELETE ends it. @type {Map<string, AbortController>} */
const running = new Map();

/**
 * Sends a report to the gateway and returns the status. A report that fails is retried twice, a second apart.
 * @param {string} url @param {unknown} message
 */
async function report(url, message, tries = 3) {
  const headers = { "content-type": "application/json" };
  for (;;) {
    try {
      return (await fetch(url, { method: "POST", headers, body: JSON.stringify(message) })).status;
    } catch (error) {
      if (--tries === 0) throw error;
      await pause(1000);
    }
  }
}

/** @param {{ context_id: string, parameters: { pages: number }, callback_url: string }} call */
async function render({ context_id, parameters: { pages }, callback_url }) {
  const stop = new AbortController();
  running.set(context_id, stop);
  try {
    for (let page = 1; page <= pages; page += 1) {
      await pause(100, undefined, { signal: stop.signal });
      const status = await report(callback_url, { progress: { page, of: pages }, lease_seconds: LEASE_SECONDS });
      // 409: the context has ended, or another attempt has begun.
      if (status === 409) return;
    }
    await report(callback_url, { result: { pages } });
    console.log(`${context_id} rendered`);
  } catch (error) {
    if (!stop.signal.aborted) console.error(error);
  } finally {
    running.delete(context_id);
  }
}

serve(
  createServer(async (request, response) => {
    const answer = (/** @type {number} */ status, /** @type {unknown} */ value) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    };
    try {
      if (request.method === "GET") return answer(200, { status: "ok" });
      const body = await read(request);
      if (body === undefined) return answer(413, { error: { code: "too_large", message: "The body is too large." } });
      if (!isGenuine(request.headers, body)) {
        return answer(401, { error: { code: "bad_signature", message: "The signature is not valid." } });
      }
      const call = JSON.parse(body.toString());
      if (request.method === "DELETE") {
        running.get(call.context_id)?.abort();
        console.log(`${call.context_id} ${call.reason}`);
        return answer(200, {});
      }
      if (call.parameters.pages > MANY && call.input === undefined) {
        const message = `${call.parameters.pages} pages take a while. Go on?`;
        return answer(200, { input_required: { message, schema: { type: "boolean" } } });
      }
      if (call.input === false) return answer(200, { result: { pages: 0 } });
      answer(202, { lease_seconds: LEASE_SECONDS });
      await render(call);
    } catch (error) {
      console.error(error);
      response.destroy();
    }
  }),
);
