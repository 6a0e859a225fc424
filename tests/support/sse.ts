// Server-Sent Events with JSON-RPC messages, read one by one.
import assert from "node:assert/strict";

export type Event = { id?: string | undefined; retry?: string | undefined; message?: any };

/** Reads a stream event by event; comments are skipped. */
export async function* streamed(response: Response): AsyncGenerator<Event> {
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  let rest = "";
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    rest += text;
    for (let at = rest.indexOf("\n\n"); at >= 0; at = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, at).split("\n");
      rest = rest.slice(at + 2);
      if (lines.every((line) => line.startsWith(":"))) continue;
      const member = (name: string) =>
        lines
          .find((line) => line.startsWith(`${name}:`))
          ?.slice(name.length + 1)
          .trim();
      const data = member("data");
      yield { id: member("id"), retry: member("retry"), message: data ? JSON.parse(data) : undefined };
    }
  }
}

/** The next event; fails if the stream ends. */
export async function next(events: AsyncGenerator<Event>): Promise<Event> {
  const { value } = await events.next();
  assert.ok(value, "the stream has ended");
  return value;
}
