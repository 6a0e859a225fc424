// Asks a model to continue a conversation, and reads its response as it arrives. The response is a provider's: whatever
// it contains is text.
import { open } from "./api.js";
import { readPiece } from "./chat-piece.js";
import { eventData } from "./event-data.js";

/** @typedef {{ role: "user" | "assistant", content: string }} Message */
/** @typedef {{ context: string | null, service: string | null, model: string | null }} Served what served a call */

/**
 * @typedef {object} ChatCall
 * @property {string} model
 * @property {Message[]} messages
 * @property {AbortSignal} signal
 * @property {(served: Served) => void} onBegin called before the first piece
 * @property {(text: string) => void} onText called with each piece
 */

const BROKEN = "The connection broke before the response was complete.";

/**
 * The body of the request.
 * @param {string} model
 * @param {Message[]} messages
 */
export const chatBody = (model, messages) => ({ model, messages, stream: true });

/**
 * What served a call, by the headers of the response.
 * @param {Headers} headers
 * @returns {Served}
 */
export const servedBy = (headers) => ({
  context: headers.get("x-narthex-context"),
  service: headers.get("x-narthex-service"),
  model: headers.get("x-narthex-model"),
});

/**
 * @param {ChatCall} call
 * @returns {Promise<string>} why the model stopped, in the provider's words
 */
export async function streamChat({ model, messages, signal, onBegin, onText }) {
  const body = chatBody(model, messages);
  const response = await open("POST", "/v1/chat/completions", { body, signal });
  onBegin(servedBy(response.headers));
  if (!response.body) throw new Error(BROKEN);
  let finishReason = "";
  for await (const data of piecesOf(response.body)) {
    if (data === "[DONE]") return finishReason;
    const { text, reason } = readPiece(data);
    if (text) onText(text);
    if (reason) finishReason = reason;
  }
  if (!finishReason) throw new Error(BROKEN);
  return finishReason;
}

/**
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<string>}
 */
async function* piecesOf(body) {
  try {
    yield* eventData(body);
  } catch {
    throw new Error(BROKEN);
  }
}
