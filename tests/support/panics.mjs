// @ts-check
// The Worker with places where its Wasm instance panics on purpose, for the tests of the entry guard. It is bundled by
// tests/support/gateway.ts and never deployed: nothing in the deployed Worker calls `panicOnPurpose`.
import * as wasm from "../../build/index.js";
import Entry, { ContextStore as Store, EventHub as Hub } from "../../entry.mjs";
export * from "../../entry.mjs";

/** The only store of a gateway with one shard that is asked from where miniflare says that its requests come from. */
const STORE = "na00";
/** A context that does not exist: asking for it kills its store, which must have been used before. */
const FATAL = `ctx_${STORE}${"0".repeat(26)}`;
const IN_ALARM = "panic in the next alarm";

/** The request, except that Rust does not survive its first look at it. @param {Request} request */
function fatal(request) {
  let seen = false;
  return new Proxy(request, {
    get(target, name) {
      if (!seen) {
        seen = true;
        wasm.panicOnPurpose();
      }
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export default class extends Entry {
  /** A request that may read the fatal context, with the headers of another. @param {Request} request */
  #readOfFatal(request) {
    const headers = new Headers(request.headers);
    headers.set("x-marker", headers.get("authorization") ?? "");
    headers.set("authorization", `Bearer ${/** @type {any} */ (this.env).ADMIN_KEY}`);
    return new Request(new URL(`/v1/contexts/${FATAL}`, request.url), { headers });
  }

  /** @param {Request} request */
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/panic/worker":
        return super.fetch(fatal(request));
      case "/panic/object":
        return super.fetch(this.#readOfFatal(request));
      case "/panic/alarm":
        await /** @type {any} */ (this.env).CONTEXTS.getByName(`default/${STORE}`).call(IN_ALARM);
        return new Response(null, { status: 200 });
      default:
        return super.fetch(request);
    }
  }
}

export class ContextStore extends Store {
  #diesInAlarm = false;

  /** @param {string} message */
  call(message) {
    if (message === IN_ALARM) {
      this.#diesInAlarm = true;
      return this.ctx.storage.setAlarm(Date.now() + 100);
    }
    if (message.includes(FATAL)) wasm.panicOnPurpose();
    return super.call(message);
  }

  alarm() {
    if (this.#diesInAlarm) {
      this.#diesInAlarm = false;
      wasm.panicOnPurpose();
    }
    return super.alarm();
  }
}

export class EventHub extends Hub {
  /** @param {WebSocket} socket @param {string | ArrayBuffer} message */
  webSocketMessage(socket, message) {
    if (message === "die") wasm.panicOnPurpose();
    return super.webSocketMessage(socket, message);
  }
}
