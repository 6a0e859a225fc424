// @ts-check
// Preloaded into the conformance suite, which has no option for credentials: adds this header to each of its requests,
// whether made by fetch, by undici or by Node's own client.
import { subscribe } from "node:diagnostics_channel";

const authorization = process.env.CONFORMANCE_AUTHORIZATION;
if (!authorization) throw new Error("CONFORMANCE_AUTHORIZATION is not set");

subscribe("undici:request:create", (message) => {
  /** @type {any} */ (message).request.addHeader("authorization", authorization);
});
subscribe("http.client.request.created", (message) => {
  /** @type {any} */ (message).request.setHeader("authorization", authorization);
});
