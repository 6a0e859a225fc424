// @ts-check
// The entry guard. It exports the platform's classes, passes every handler on to the Wasm module, and rejects
// promises in flight when a panic ends the Wasm instance: with `panic = "abort"` they would otherwise stay
// pending forever, and so would their callers. It makes no decisions.
//
// It relies on `worker`'s init.rs, which sets `criticalError` when Rust panics, and on wasm-bindgen, which creates a
// new instance at the next call. Both are pinned exactly; tests/panic.test.ts panics on purpose.
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
import * as wasm from "./build/index.js";
import { commit } from "./build/version.mjs";
import { failure } from "./src/platform/failure.js";

// Not compiled into the Wasm, which a commit alone would change.
globalThis.__narthex_commit = commit;

const state = wasm.initState();
/** Objects created by an instance that died are created again. */
let generation = 0;
/** The instance has died, and has not been replaced yet. */
let dead = false;

/** @param {string} reason */
function died(reason) {
  if (dead) return;
  dead = true;
  generation += 1;
  globalThis.__narthex_abandon(new Error(`the Wasm instance died: ${reason}`));
}

Object.defineProperty(state, "criticalError", {
  get: () => dead,
  set(value) {
    if (value) died("panic");
  },
});
addEventListener("error", (event) => {
  if (event.error instanceof WebAssembly.RuntimeError) died("trap");
});
// The trap happened while a promise's outcome was passed on.
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof WebAssembly.RuntimeError) died("trap");
});

/** The new instance must exist before anything is passed to it: text is written into the current memory. */
function revive() {
  if (!dead) return;
  wasm.initState();
  dead = false;
}

/**
 * Promises of Rust settle or are rejected through `died`; synchronous failures throw here.
 * @template T @param {() => T} run
 */
function guard(run) {
  revive();
  try {
    return run();
  } catch (error) {
    // A trap other than a panic (stack, memory) sets no `criticalError`.
    if (error instanceof WebAssembly.RuntimeError) died("trap");
    throw error;
  }
}

/** @param {Request} request @param {unknown} error */
function failed(request, error) {
  const id = `req_${crypto.randomUUID()}`;
  console.error(JSON.stringify({ level: "error", message: "request died", request_id: id, detail: String(error) }));
  return failure(request, id);
}

export default class extends WorkerEntrypoint {
  /** @param {Request} request */
  async fetch(request) {
    try {
      return await guard(() => wasm.fetch(request, this.env, this.ctx));
    } catch (error) {
      return failed(request, error);
    }
  }

  /** @param {MessageBatch<string>} batch */
  async queue(batch) {
    await Promise.all(
      batch.messages.map(async (message) => {
        try {
          await guard(() => wasm.work(String(message.body), this.ctx));
          message.ack();
        } catch {
          message.retry();
        }
      }),
    );
  }

  scheduled() {
    return guard(() => wasm.sweep(this.ctx));
  }
}

class Guarded extends DurableObject {
  /** The object of the current instance; each class creates its own. @type {any} */
  #made;
  #generation = -1;

  get inner() {
    if (this.#generation !== generation) {
      this.#made = /** @type {any} */ (this).make();
      this.#generation = generation;
    }
    return this.#made;
  }

  /** @param {string} message */
  call(message) {
    return guard(() => this.inner.call(message));
  }

  alarm() {
    return guard(() => this.inner.alarm());
  }
}

export class Registry extends Guarded {
  make() {
    return new /** @type {any} */ (wasm.Registry)(this.ctx, this.env);
  }
}

export class ContextStore extends Guarded {
  make() {
    return new wasm.ContextStore(this.ctx, this.env);
  }
}

export class GrantStore extends Guarded {
  make() {
    return new wasm.GrantStore(this.ctx, this.env);
  }
}

export class Scheduler extends Guarded {
  make() {
    return new wasm.Scheduler(this.ctx, this.env);
  }
}

export class RateLimiter extends Guarded {
  make() {
    return new wasm.RateLimiter(this.ctx, this.env);
  }
}

export class McpSession extends Guarded {
  make() {
    return new wasm.McpSession(this.ctx, this.env);
  }
}

class Watched extends Guarded {
  /** This much of a message is enough to see that it is too long. */
  longest = 65_537;

  /** @param {Request} request */
  fetch(request) {
    return guard(() => this.inner.open(decodeURIComponent(new URL(request.url).search.slice(1))));
  }

  /** @param {WebSocket} socket @param {string | ArrayBuffer} message */
  webSocketMessage(socket, message) {
    const text = typeof message === "string" ? message.slice(0, this.longest) : undefined;
    return guard(() => this.inner.message(socket, text));
  }

  /** @param {WebSocket} socket @param {number} code */
  webSocketClose(socket, code) {
    return guard(() => {
      this.inner.closed(socket);
      // Completes the closing handshake where the platform did not; 1005 and 1006 may not be sent.
      try {
        socket.close(code === 1005 || code === 1006 ? 1000 : code);
      } catch {
        /* closed already */
      }
    });
  }

  /** @param {WebSocket} socket */
  webSocketError(socket) {
    return guard(() => this.inner.closed(socket));
  }
}

export class EventHub extends Watched {
  make() {
    return new wasm.EventHub(this.ctx, this.env);
  }
}

export class EventShard extends Watched {
  make() {
    return new wasm.EventShard(this.ctx, this.env);
  }
}

export class ServiceLane extends Watched {
  longest = 1_048_577;

  make() {
    return new wasm.ServiceLane(this.ctx, this.env);
  }
}
