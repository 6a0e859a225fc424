// @ts-check
// The Worker as `narthex serve` runs it on workerd alone. There are neither queues nor cron triggers there:
// `Background` runs what a queue's consumer would run, and the alarm of the object `Sweeper` stands in for the cron
// trigger. `Control` serves the program itself, through a socket in the data folder that only its user can open.
import { DurableObject } from "cloudflare:workers";
import Gateway from "../entry.mjs";
import { stop } from "../build/index.js";
import { failure, STOPPING, STORAGE_FULL } from "../src/platform/failure.js";

export * from "../entry.mjs";

const SWEEP_MS = 60_000;
/** An alarm this late was lost: the clock leapt, or the disk was full, after which workerd waits ever longer. */
const LOST_SWEEPS = 3;
/** The consumers of one message that run at a time; what arrives beyond is one more run after them. */
const MAX_CONSUMERS = 10;
/** A clock that goes back by more than this is reported. */
const CLOCK_SLACK_MS = 5_000;

/** When the sweeper's alarm last went off, in this process. */
let wokenAt = 0;
let stopping = false;
/** @type {Map<string, { running: number, again: boolean }>} */
const consumers = new Map();

/** @param {"warn" | "error"} level @param {string} message @param {Record<string, unknown>} fields */
const log = (level, message, fields) => console.log(JSON.stringify({ level, message, ...fields }));

/** @param {Cloudflare.Env} env */
const sweeper = (env) => {
  const objects = /** @type {DurableObjectNamespace<Sweeper>} */ (env.SWEEPER);
  return objects.get(objects.idFromName("sweeper"));
};

/** The interval of sweeps. @param {Cloudflare.Env} env */
const sweepMs = (env) => SWEEP_MS * (Number(env.TIME_SCALE) || 1);

/** Whether the sweeper's alarm was lost. @param {Cloudflare.Env} env */
const isLost = (env) => Math.abs(Date.now() - wokenAt) >= LOST_SWEEPS * sweepMs(env);

/** Starts the sweeper again. If that fails, the next call tries again. @param {Cloudflare.Env} env */
const restart = (env) =>
  sweeper(env)
    .start()
    .catch(() => {});

/** workerd would leave new connections waiting until it ends, so requests are refused. @param {Request} request */
const refuse = (request) => failure(request, `req_${crypto.randomUUID()}`, STOPPING);

/** How long the answer to the question whether the disk is full is used again. */
const LOOK_MS = 1_000;
let look = { at: -Infinity, full: Promise.resolve(false) };

/** Whether the disk is full. @param {Cloudflare.Env} env @returns {Promise<boolean>} */
function isFull(env) {
  if (Math.abs(Date.now() - look.at) >= LOOK_MS) {
    const full = sweeper(env).isFull();
    look = { at: Date.now(), full: full.then(Boolean, (error) => /SQLITE_FULL/.test(String(error))) };
  }
  return look.full;
}

export default class extends Gateway {
  /** @param {Request} request */
  async fetch(request) {
    if (stopping) return refuse(request);
    if (isLost(this.env)) this.ctx.waitUntil(restart(this.env));
    const response = await super.fetch(request);
    // An object whose write fails when it is committed says nothing of the reason.
    if (response.status !== 500 || !(await isFull(this.env))) return response;
    await response.body?.cancel();
    return failure(request, response.headers.get("x-request-id") ?? "", STORAGE_FULL);
  }
}

export class Background extends Gateway {
  /** Starts a consumer of a message, and does not wait for it. @param {string} message */
  work(message) {
    if (stopping) return;
    const known = consumers.get(message) ?? { running: 0, again: false };
    consumers.set(message, known);
    if (known.running >= MAX_CONSUMERS) known.again = true;
    else this.ctx.waitUntil(this.#consume(message, known));
  }

  /** @param {string} message @param {{ running: number, again: boolean }} known */
  async #consume(message, known) {
    known.running += 1;
    do {
      known.again = false;
      // After a failure the alarm of the object sends the message again.
      const batch = { messages: [{ body: message, ack() {}, retry() {} }] };
      await super.queue(/** @type {any} */ (batch));
    } while (known.again && !stopping);
    known.running -= 1;
    if (known.running === 0) consumers.delete(message);
  }

  /** Starts a sweep of all tenants, and does not wait for it. */
  sweep() {
    if (stopping) return;
    const failed = (/** @type {unknown} */ error) => log("error", "sweep failed", { detail: String(error) });
    this.ctx.waitUntil(Promise.resolve(this.scheduled()).catch(failed));
  }
}

/** Wakes every minute. */
export class Sweeper extends DurableObject {
  async start() {
    await this.ctx.storage.setAlarm(Date.now());
  }

  /** Whether there is no room for some rows; what is written to find out is undone. */
  isFull() {
    const { sql } = this.ctx.storage;
    const done = new Error("undo");
    try {
      this.ctx.storage.transactionSync(() => {
        sql.exec("CREATE TABLE IF NOT EXISTS room (filler BLOB)");
        // More than SQLite keeps in memory until the transaction is committed.
        for (let row = 0; row < 4; row += 1) sql.exec("INSERT INTO room VALUES (randomblob(1500000))");
        throw done;
      });
    } catch (error) {
      return error !== done && /SQLITE_FULL/.test(String(error));
    }
    return false;
  }

  async alarm() {
    const now = Date.now();
    await this.ctx.storage.setAlarm(now + sweepMs(this.env));
    await this.ctx.storage.sync();
    wokenAt = now;
    const before = /** @type {number | undefined} */ (await this.ctx.storage.get("swept_at")) ?? 0;
    await this.ctx.storage.put("swept_at", now);
    if (now < before - CLOCK_SLACK_MS) {
      const detail = `by ${Math.round((before - now) / 1000)} s: what waits for a time is late by as much`;
      log("warn", "clock set back", { detail });
    }
    await this.env.SELF?.sweep();
  }
}

export class Control extends Gateway {
  /** @param {Request} request */
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/start") return this.#start(request.headers.has("with-demo"));
    if (pathname === "/stop") return this.#stop();
    if (stopping) return refuse(request);
    return super.fetch(request);
  }

  /**
   * Says whether the gateway can serve, and begins to sweep.
   * @param {boolean} withDemo whether to register the demonstration
   */
  async #start(withDemo) {
    const answer = await this.#ask("GET", "/v1/whoami");
    if (!answer.ok) return answer;
    await sweeper(this.env).start();
    this.ctx.waitUntil(this.#watch());
    if (withDemo && this.env.DEMO !== "false") {
      const demo = await this.env.ASSETS.fetch("http://assets/demo.json");
      const registered = await this.#ask("PUT", "/v1/services/demo", await demo.text());
      await registered.body?.cancel();
    }
    return answer;
  }

  /** Sweeps while the sweeper's alarm is lost, also where no requests come. */
  async #watch() {
    while (!stopping) {
      await new Promise((resolve) => setTimeout(resolve, sweepMs(this.env)));
      if (!isLost(this.env)) continue;
      await restart(this.env);
      await this.env.SELF?.sweep();
    }
  }

  /** @param {string} method @param {string} path @param {string} [body] */
  #ask(method, path, body) {
    const headers = { authorization: `Bearer ${this.env.ADMIN_KEY}`, "content-type": "application/json" };
    return super.fetch(new Request(`http://narthex${path}`, { method, headers, body: body ?? null }));
  }

  /** Takes no more work. The response ends when no call runs any longer. */
  #stop() {
    stopping = true;
    stop();
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    const text = new TextEncoder();
    const ended = async () => {
      await writer.write(text.encode("stopping\n"));
      while (stop() > 0) await new Promise((resolve) => setTimeout(resolve, 50));
      await writer.close();
    };
    this.ctx.waitUntil(ended().catch(() => {}));
    return new Response(readable);
  }
}
