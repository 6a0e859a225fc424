// @ts-check
// The service behind the gateway: a separate process that answers every call at once, so that only the way
// there and back is measured. `GET /served` returns the number of answered calls.
import { createServer } from "node:http";

const ANSWER = Buffer.from(
  JSON.stringify({
    result: {
      text:
        "An answer of about the length a small model gives to a small question, so that what is parsed, stored and " +
        "sent on is not trivially short. It says nothing, and it says the same to everybody who asks, every time.",
      model: "bench-1",
      finish_reason: "stop",
      usage: { prompt_tokens: 42, completion_tokens: 51 },
    },
  }),
);
const HEALTHY = Buffer.from('{"status":"ok"}');

let served = 0;

const server = createServer((request, response) => {
  const send = (/** @type {Buffer} */ body) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
    response.end(body);
  };
  if (request.method === "GET")
    return send(request.url === "/served" ? Buffer.from(JSON.stringify({ served })) : HEALTHY);
  request.resume();
  request.on("end", () => {
    served += 1;
    send(ANSWER);
  });
});
// Longer than any pause between rounds: a connection that closes while it is reused looks like a failed call.
server.keepAliveTimeout = 600_000;
server.listen(0, "127.0.0.1", 2048, () => {
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  process.send?.({ port: address.port });
});
process.on("disconnect", () => process.exit(0));
// The parent decides when to stop; Ctrl-C reaches the whole group and must not stop this one first.
process.on("SIGINT", () => {});
