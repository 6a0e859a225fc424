// Receives the events of a webhook, and verifies that Narthex sent them.
//
// npm install standardwebhooks
// WEBHOOK_SECRET=whsec_… node webhook.mjs     (PORT and HOST as you like)
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const { WEBHOOK_SECRET: secret, PORT = "9000", HOST = "127.0.0.1" } = process.env;
if (!secret) {
  console.error("Set WEBHOOK_SECRET to what PUT /v1/webhooks/{id} showed.");
  process.exit(1);
}
/** Ids of received events: delivery is at least once. */
const taken = new Set();

/** @param {import("node:http").IncomingMessage} request */
async function take(request) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const headers = /** @type {Record<string, string>} */ (request.headers);
  const event = /** @type {any} */ (new Webhook(secret ?? "").verify(body, headers));
  if (taken.has(event.id)) return;
  taken.add(event.id);
  console.log(event.sequence, event.type, event.subject);
}

const server = createServer(async (request, response) => {
  try {
    await take(request);
    response.writeHead(204).end();
  } catch {
    // Not signed by the gateway, or too old.
    response.writeHead(400).end();
  }
});
server.listen(Number(PORT), HOST, () => {
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  console.log(`listening on http://${HOST}:${port}/`);
});
