// @ts-check
// Preloaded into the referee, which has no option for credentials: each request it makes gets this header, whether it
// is made by fetch, by undici or by Node's own client.
import { subscribe } from "node:diagnostics_channel";

const authorization = process.env.REFEREE_AUTHORIZATION;
if (!authorization) throw new Error("REFEREE_AUTHORIZATION is not set");

subscribe("undici:request:create", (message) => {
  /** @type {any} */ (message).request.addHeader("authorization", authorization);
});
subscribe("http.client.request.created", (message) => {
  /** @type {any} */ (message).request.setHeader("authorization", authorization);
});
