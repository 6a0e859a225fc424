// A WebSocket client of the event stream.
import { setTimeout as later } from "node:timers";
import WebSocket from "ws";
import { Contract } from "./contract.ts";
import type { Gateway } from "./gateway.ts";
import { PATIENCE_MS } from "./patience.ts";

export type EventsOptions = {
  /** Default: `/v1/events`. */
  path?: string;
  query?: Record<string, string>;
  /** Bearer token. Default: the admin key; null: none. */
  key?: string | null;
  /** A single-use ticket, sent in the query instead of a key. */
  ticket?: string;
  /** Default: `["cloudevents.json"]`. */
  protocols?: string[];
  headers?: Record<string, string>;
  /** False: messages are not checked against asyncapi.json. */
  contract?: boolean;
};

export type Events = {
  /** Every message so far, parsed. */
  messages: any[];
  /**
   * Waits for the next message that matches; skipped ones stay in `messages`. Rejects when the socket closes first.
   */
  next(predicate?: (message: any) => boolean): Promise<any>;
  /** Settles with the close frame; 1006 if there was none. */
  closed: Promise<{ code: number; reason: string }>;
  /** A string is sent unchanged, anything else as JSON. */
  send(message: unknown): void;
  close(code?: number, reason?: string): void;
  /** The socket itself, e.g. to `pause()` reading. */
  socket: WebSocket;
};

/** The gateway responded to the upgrade with plain HTTP. */
export class UpgradeRefused extends Error {
  readonly status: number;
  readonly text: string;
  readonly json: any;

  constructor(status: number, text: string) {
    super(`the upgrade was refused with ${status}: ${text}`);
    this.status = status;
    this.text = text;
    try {
      this.json = JSON.parse(text);
    } catch {
      // Stays undefined.
    }
  }
}

/** Opens a socket; rejects with `UpgradeRefused` if the gateway refuses it. */
export async function openEvents(
  gateway: Pick<Gateway, "url" | "adminKey">,
  options: EventsOptions = {},
): Promise<Events> {
  const target = new URL(options.path ?? "/v1/events", gateway.url);
  for (const [name, value] of Object.entries(options.query ?? {})) target.searchParams.set(name, value);
  if (options.ticket !== undefined) target.searchParams.set("ticket", options.ticket);
  const key = options.key !== undefined ? options.key : options.ticket !== undefined ? null : gateway.adminKey;
  target.protocol = "ws:";
  const settings: WebSocket.ClientOptions & { closeTimeout: number } = {
    // After a close frame the platform may keep the connection until the object hibernates; tests do not wait for that.
    closeTimeout: 500,
    headers: { ...(key !== null && { authorization: `Bearer ${key}` }), ...options.headers },
  };
  const socket = new WebSocket(target, options.protocols ?? ["cloudevents.json"], settings);
  const contract = options.contract === false ? undefined : Contract.load();

  const messages: any[] = [];
  const waiting = new Set<() => void>();
  let given = 0;
  let violation: unknown;
  let ended: { code: number; reason: string } | undefined;
  const notify = () => {
    for (const look of [...waiting]) look();
  };
  socket.on("message", (data) => {
    const text = data.toString();
    let message: any = text;
    try {
      message = JSON.parse(text);
    } catch {
      // A message that is not JSON is kept as text, for the test to inspect.
    }
    messages.push(message);
    try {
      if (message?.specversion !== undefined) contract?.checkEvent(message);
    } catch (error) {
      violation ??= error;
    }
    notify();
  });
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on("close", (code, reason) => {
      ended = { code, reason: reason.toString() };
      resolve(ended);
      notify();
    });
  });

  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("unexpected-response", async (_, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk);
      reject(new UpgradeRefused(response.statusCode ?? 0, Buffer.concat(chunks).toString()));
      socket.terminate();
    });
    // Needed after opening, too: an error is followed by a close, which tests check.
    socket.on("error", reject);
  });

  return {
    messages,
    closed,
    socket,
    send: (message) => socket.send(typeof message === "string" ? message : JSON.stringify(message)),
    close: (code = 1000, reason = "") => socket.close(code, reason),
    next: (predicate = () => true) =>
      new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          clearTimeout(timer);
          waiting.delete(look);
          act();
        };
        const look = () => {
          if (violation) return settle(() => reject(violation));
          const index = messages.findIndex((message, at) => at >= given && predicate(message));
          if (index >= 0) {
            given = index + 1;
            return settle(() => resolve(messages[index]));
          }
          if (ended) settle(() => reject(new Error(`the socket closed with ${ended?.code} ${ended?.reason} before`)));
        };
        const timer = later(() => {
          const types = messages.slice(given).map((message) => message?.type ?? message);
          settle(() => reject(new Error(`no such message in ${PATIENCE_MS} ms; there were ${JSON.stringify(types)}`)));
        }, PATIENCE_MS);
        waiting.add(look);
        look();
      }),
  };
}
