// @ts-check
// The Worker with places where its Wasm instance panics on purpose, for the tests of the entry guard. It is bundled by
// tests/support/gateway.ts and never deployed: nothing in the deployed Worker calls `panicOnPurpose`.
import * as wasm from "../../build/index.js";
import Entry, { ContextStore as Store, EventHub as Hub } from "../../entry.mjs";
export * from "../../entry.mjs";

/** A context that does not exist, in the store `eu00`: asking for it kills the store, which must have been used. */
const FATAL = "ctx_eu0000000000000000000000000000";
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
  /** @param {Request} request */
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/panic/worker":
        return super.fetch(fatal(request));
      case "/panic/object":
        return super.fetch(new Request(new URL(`/v1/contexts/${FATAL}`, request.url), { headers: request.headers }));
      case "/panic/alarm":
        await /** @type {any} */ (this.env).CONTEXTS.getByName("default/eu00").call(IN_ALARM);
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
