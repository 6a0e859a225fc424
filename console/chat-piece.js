// A piece of a streamed chat: its text, why the model stopped, or an error.

/**
 * @param {string} data of an event
 * @returns {{ text: string, reason: string }}
 * @throws {Error} if it reports an error
 */
export function readPiece(data) {
  const piece = parsed(data);
  const error = piece?.error || (piece?.object === "error" && piece);
  if (error) throw new Error(errorText(error));
  const [choice] = Array.isArray(piece?.choices) ? piece.choices : [];
  const { content, refusal } = choice?.delta ?? {};
  const reason = choice?.finish_reason;
  return {
    text: [content, refusal].filter((part) => typeof part === "string").join(""),
    reason: typeof reason === "string" ? reason : "",
  };
}

/**
 * @param {string} data
 * @returns {any}
 */
function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Error("The response has a piece that is not JSON.");
  }
}

/**
 * @param {any} error
 * @returns {string}
 */
function errorText(error) {
  const text = error.message ?? error;
  return typeof text === "string" ? text : JSON.stringify(error);
}
