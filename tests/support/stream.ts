// A client of the event stream, for Server-Sent Events.
import { setTimeout as later } from "node:timers";
import { Contract } from "./contract.ts";
import type { Client } from "./client.ts";
import { PATIENCE_MS } from "./patience.ts";

export type StreamOptions = {
  /** Default: `/v1/events`. */
  path?: string;
  query?: Record<string, string>;
  /** Bearer token. Default: the admin key; null: none. */
  key?: string | null;
  /** A single-use ticket, sent in the query instead of a key. */
  ticket?: string;
  headers?: Record<string, string>;
};

export type Stream = {
  headers: Headers;
  /** Every event so far, parsed, with its id. */
  events: any[];
  ids: string[];
  /** Waits for the next event that matches. */
  next(predicate: (event: any) => boolean): Promise<any>;
  /** Settles after this many comments. */
  comment(count: number): Promise<void>;
  /** Settles once the gateway has ended the stream. */
  ended: Promise<void>;
  close(): void;
};

/** The gateway responded with something other than a stream. */
export class StreamRefused extends Error {
  readonly status: number;

  constructor(status: number, text: string) {
    super(`the stream was refused with ${status}: ${text}`);
    this.status = status;
  }
}

/** Opens a stream; rejects with `StreamRefused` if the gateway refuses it. */
export async function openStream(gateway: Client, options: StreamOptions = {}): Promise<Stream> {
  const query = new URLSearchParams(options.query);
  if (options.ticket !== undefined) query.set("ticket", options.ticket);
  const key = options.key !== undefined ? options.key : options.ticket !== undefined ? null : gateway.adminKey;
  const path = `${options.path ?? "/v1/events"}${query.size > 0 ? `?${query}` : ""}`;
  const response = await gateway.open("GET", path, {
    key,
    headers: { accept: "text/event-stream", ...options.headers },
  });
  if (response.status !== 200 || !response.body) throw new StreamRefused(response.status, await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();

  const events: any[] = [];
  const ids: string[] = [];
  const waiting = new Set<() => void>();
  let comments = 0;
  let given = 0;
  let violation: unknown;
  const take = (frame: string) => {
    const fields = frame.split("\n").map((line) => /^([a-z]*):(?: ?)(.*)$/.exec(line) ?? ["", "", line]);
    comments += fields.filter(([, name]) => name === "").length;
    const of = (wanted: string) => fields.find(([, name]) => name === wanted)?.[2];
    const data = of("data");
    if (data === undefined) return;
    events.push(JSON.parse(data));
    ids.push(of("id") ?? "");
    try {
      Contract.load()?.checkEvent(events.at(-1));
    } catch (error) {
      violation ??= error;
    }
  };
  let over = false;
  const ended = (async () => {
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        rest += value;
        const frames = rest.split("\n\n");
        rest = frames.pop() ?? "";
        frames.forEach(take);
        for (const look of [...waiting]) look();
      }
    } finally {
      over = true;
      for (const look of [...waiting]) look();
    }
  })();
  // Callers of `next` and `ended` receive the failure; it must not become an unhandled rejection.
  ended.catch(() => {});

  const until = <T>(find: () => T | undefined) =>
    new Promise<T>((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        waiting.delete(look);
        act();
      };
      const look = () => {
        if (violation) return settle(() => reject(violation));
        const found = find();
        if (found !== undefined) return settle(() => resolve(found));
        if (over) settle(() => reject(new Error("the stream ended before")));
      };
      const timer = later(
        () => settle(() => reject(new Error(`nothing in ${PATIENCE_MS} ms; ${events.length} events`))),
        PATIENCE_MS,
      );
      waiting.add(look);
      look();
    });

  return {
    headers: response.headers,
    events,
    ids,
    ended,
    next: (predicate) =>
      until(() => {
        const at = events.findIndex((event, index) => index >= given && predicate(event));
        if (at < 0) return undefined;
        given = at + 1;
        return events[at];
      }),
    comment: async (count) => void (await until(() => comments >= count || undefined)),
    close: () => void reader.cancel().catch(() => {}),
  };
}
