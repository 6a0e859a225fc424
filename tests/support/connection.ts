// A connected service controlled by a test: it sends the messages of the test, and records those it receives.
import WebSocket from "ws";
import type { Capability } from "./arrange.ts";
import { Contract } from "./contract.ts";
import type { Gateway } from "./gateway.ts";
import { PATIENCE_MS } from "./patience.ts";
import { UpgradeRefused } from "./socket.ts";

export const SUBPROTOCOL = "narthex.service.v1";

export type Connection = {
  /** All messages received so far, parsed. */
  messages: any[];
  /** Waits for the next message of this type. */
  next(type: string): Promise<any>;
  count(type: string): number;
  /** The handler for work from now on, and for work received before. */
  onWork: (message: { delivery: string; work: any }) => unknown;
  ready(credit: number, resume?: string[]): void;
  /** A string is sent unchanged. */
  send(message: unknown): void;
  close(): void;
  /** Ends without a closing handshake, as when the process is killed. */
  terminate(): void;
  closed: Promise<{ code: number; reason: string }>;
  /** A `ping` was answered. */
  ponged: Promise<void>;
};

/** The document of a connected service. */
export const connecting = (capabilities: Capability[], more: object = {}) => ({
  name: "A connected service",
  type: "tool",
  transport: { kind: "socket", grace_seconds: 2 },
  capabilities,
  retry: { max_attempts: 3, base_ms: 1, cap_ms: 10 },
  ...more,
});

/** Opens a connection; rejects with `UpgradeRefused` if the gateway refuses it. */
export async function connect(
  gateway: Pick<Gateway, "url">,
  service: string,
  key: string | null,
  protocols: string[] = [SUBPROTOCOL],
): Promise<Connection> {
  const url = `${gateway.url.replace(/^http/, "ws")}/v1/services/${service}/connect`;
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  const socket = new WebSocket(url, protocols, { headers });
  const contract = Contract.load();
  const messages: any[] = [];
  const given = new Map<string, number>();
  const waiting = new Set<() => void>();
  let ended: { code: number; reason: string } | undefined;
  let violation: unknown;
  let ponged = () => {};
  const connection: Connection = {
    messages,
    count: (type) => messages.filter((message) => message.type === type).length,
    onWork: () => {},
    ready: (credit, resume) => connection.send({ type: "ready", credit, ...(resume && { resume }) }),
    send(message) {
      if (socket.readyState === WebSocket.OPEN)
        socket.send(typeof message === "string" ? message : JSON.stringify(message));
    },
    close: () => socket.close(1000),
    terminate: () => socket.terminate(),
    closed: new Promise((resolve) =>
      socket.on("close", (code, reason) => {
        ended = { code, reason: String(reason) };
        for (const look of waiting) look();
        resolve(ended);
      }),
    ),
    ponged: new Promise((resolve) => (ponged = resolve)),
    next: (type) =>
      new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          clearTimeout(timer);
          waiting.delete(look);
          act();
        };
        const look = () => {
          if (violation) return settle(() => reject(violation));
          const at = messages.findIndex((message, index) => index >= (given.get(type) ?? 0) && message.type === type);
          if (at >= 0) {
            given.set(type, at + 1);
            return settle(() => resolve(messages[at]));
          }
          if (ended) settle(() => reject(new Error(`closed with ${ended?.code} ${ended?.reason} before`)));
        };
        const timer = setTimeout(() => {
          settle(() => reject(new Error(`no ${type} in ${PATIENCE_MS} ms; there were ${JSON.stringify(messages)}`)));
        }, PATIENCE_MS);
        waiting.add(look);
        look();
      }),
  };
  socket.on("message", (data) => {
    const text = String(data);
    if (text === "pong") return ponged();
    const message = JSON.parse(text);
    try {
      contract?.checkMessage("connection", message);
    } catch (error) {
      violation = error;
    }
    messages.push(message);
    if (message.type === "work") connection.onWork(message);
    for (const look of waiting) look();
  });
  await new Promise<void>((resolve, reject) => {
    socket.on("open", () => resolve());
    socket.on("unexpected-response", async (_, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk);
      reject(new UpgradeRefused(response.statusCode ?? 0, Buffer.concat(chunks).toString()));
      socket.terminate();
    });
    socket.on("error", reject);
  });
  return connection;
}
