// Reads a stream of server-sent events. `EventSource` cannot: it only sends GET requests.

/** A line ends with CR LF, LF or CR; a CR at the end may be the first half of a CR LF. */
const LINE_BREAK = /\r\n|\n|\r(?!$)/;

/**
 * Finds the data of each event in a text that arrives in pieces, cut anywhere.
 * @returns {{ push(piece: string): string[], end(): string[] }} both return the data of the events that are complete
 */
export function eventReader() {
  let rest = "";
  /** Lines of data of the event that has begun. @type {string[]} */
  let lines = [];

  /**
   * @param {string} line
   * @returns {string[]}
   */
  function take(line) {
    if (line === "") {
      const data = lines.join("\n");
      lines = [];
      // Some providers send empty events, so that the connection is not silent.
      return data.trim() === "" ? [] : [data];
    }
    // Other fields and comments say nothing here.
    const data = line.match(/^data(?:: ?(.*))?$/s);
    if (data) lines.push(data[1] ?? "");
    return [];
  }

  return {
    push(piece) {
      const all = (rest + piece).split(LINE_BREAK);
      rest = all.pop() ?? "";
      return all.flatMap(take);
    },
    // Some providers leave out the empty line after the last event.
    end: () => [...take(rest.replace(/\r$/, "")), ...take("")],
  };
}

/**
 * The data of each event of a response.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<string>}
 */
export async function* eventData(body) {
  const events = eventReader();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      yield* done ? events.end() : events.push(value);
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
