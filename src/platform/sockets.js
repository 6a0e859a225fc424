// @ts-check
// WebSockets, for `sockets.rs`.
import { headersOf } from "./http.js";
import { generation, resume, watch } from "./tasks.js";

// Hibernating sockets of an object, by a number that is valid as long as this instance.

/**
 * @typedef {{ next: number, sockets: Map<number, WebSocket>, slots: WeakMap<WebSocket, number> }} Slots
 * @type {WeakMap<DurableObjectState, Slots>}
 */
const held = new WeakMap();

/** @param {DurableObjectState} state @param {WebSocket} socket */
function hold(state, socket) {
  const table = held.get(state);
  if (!table) return 0;
  const slot = table.next++;
  table.sockets.set(slot, socket);
  table.slots.set(socket, slot);
  return slot;
}

/** Resumes the sockets that outlived the instance. Returns [slot, attachment, …]. @param {DurableObjectState} state */
export function restoreSockets(state) {
  held.set(state, { next: 0, sockets: new Map(), slots: new WeakMap() });
  state.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
  const list = [];
  for (const socket of state.getWebSockets()) list.push(hold(state, socket), socket.deserializeAttachment() ?? "");
  return list;
}

/**
 * Opens a socket; returns [response, slot].
 * @param {DurableObjectState} state @param {string} attachment @param {string} headers
 */
export function acceptSocket(state, attachment, headers) {
  const { 0: client, 1: server } = new WebSocketPair();
  state.acceptWebSocket(server);
  server.serializeAttachment(attachment);
  return [new Response(null, { status: 101, webSocket: client, headers: headersOf(headers) }), hold(state, server)];
}

/** @param {DurableObjectState} state @param {WebSocket} socket */
export function slotOf(state, socket) {
  return held.get(state)?.slots.get(socket) ?? -1;
}

/** When a socket's ping was last answered; 0: never. @param {DurableObjectState} state @param {number} slot */
export function pingedAt(state, slot) {
  const socket = held.get(state)?.sockets.get(slot);
  return (socket && state.getWebSocketAutoResponseTimestamp(socket)?.getTime()) ?? 0;
}

// The Worker's end of an object's socket.

/**
 * The received text, and the token of the waiting task; 0: none.
 * @typedef {{ socket: WebSocket, text: string, ended: boolean, waiting: number }} ClientSocket
 */

/** @param {Response} response */
export function takeSocket(response) {
  const socket = /** @type {WebSocket} */ (response.webSocket);
  /** @type {ClientSocket} */
  const end = { socket, text: "", ended: false, waiting: 0 };
  const startedIn = generation;
  const came = () => {
    const token = end.waiting;
    end.waiting = 0;
    if (token !== 0 && startedIn === generation) give(token, end);
  };
  socket.addEventListener("message", ({ data }) => {
    // Everything it sends is relevant, except responses to pings.
    if (data !== "pong") end.text += data;
    if (end.text !== "") came();
  });
  const ended = () => {
    end.ended = true;
    came();
  };
  socket.addEventListener("close", ended);
  socket.addEventListener("error", ended);
  socket.accept();
  return end;
}

/** @param {number} token @param {ClientSocket} end */
function give(token, end) {
  const { text } = end;
  end.text = "";
  resume(token, true, text === "" ? undefined : text);
}

/** The received text, or undefined at the end. @param {number} token @param {ClientSocket} end */
export function nextText(token, end) {
  if (end.text === "" && !end.ended) end.waiting = token;
  else
    watch(
      token,
      Promise.resolve().then(() => {
        const { text } = end;
        end.text = "";
        return text === "" ? undefined : text;
      }),
    );
}

/** @param {ClientSocket} end */
export function pingSocket({ socket }) {
  try {
    socket.send("ping");
  } catch {
    /* It closed in the meantime. */
  }
}

/** @param {ClientSocket} end */
export function dropSocket({ socket }) {
  try {
    socket.close(1000);
  } catch {
    /* It closed in the meantime. */
  }
}

/**
 * Remembers a socket's attachment over hibernation.
 * @param {DurableObjectState} state @param {number} slot @param {string} attachment
 */
export function attach(state, slot, attachment) {
  held.get(state)?.sockets.get(slot)?.serializeAttachment(attachment);
}

/**
 * Sends one text to many sockets in one crossing. A socket that is gone is left to its close event.
 * @param {DurableObjectState} state @param {Uint32Array} slots @param {string} text
 */
export function send(state, slots, text) {
  const sockets = held.get(state)?.sockets;
  if (!sockets) return;
  for (const slot of slots) {
    try {
      sockets.get(slot)?.send(text);
    } catch {
      sockets.delete(slot);
    }
  }
}

/** @param {DurableObjectState} state @param {number} slot @param {number} code @param {string} reason */
export function closeSocket(state, slot, code, reason) {
  const table = held.get(state);
  const socket = table?.sockets.get(slot);
  table?.sockets.delete(slot);
  try {
    // A new instance finds it among the others, and must not mistake it for an open one.
    socket?.serializeAttachment("");
    socket?.close(code, reason);
  } catch {
    // It closed in the meantime.
  }
}
