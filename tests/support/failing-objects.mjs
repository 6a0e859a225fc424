// @ts-check
// The Worker whose calls of objects fail as they do on the deployed platform: the local one never overloads an object
// and never moves it. It is bundled by tests/support/gateway.ts and never deployed.
import { env } from "cloudflare:workers";
import Entry from "../../entry.mjs";
export * from "../../entry.mjs";

/**
 * `containing`: the calls that fail, by a text in their message. `times`: how many of them. `properties`: those that
 * the platform puts on the error. `acts`: the object receives these calls too, and only its replies are lost. `calls`
 * counts all such calls, whether they failed or not.
 * @type {{ containing: string, times: number, properties: Record<string, boolean>, acts?: boolean, calls: number } |
 *   undefined}
 */
let failing;

/** @param {any} stub */
function failingStub(stub) {
  return {
    /** @param {string} message */
    async call(message) {
      if (failing && message.includes(failing.containing)) {
        const { acts, properties, times } = failing;
        failing.calls += 1;
        if (failing.calls <= times) {
          if (acts) await stub.call(message);
          throw Object.assign(new Error("The object cannot be reached."), properties);
        }
      }
      return stub.call(message);
    },
    /** @param {unknown[]} args */
    fetch: (...args) => stub.fetch(...args),
  };
}

for (const name of ["CONTEXTS", "EVENTS", "REGISTRY", "LANES", "SHARDS"]) {
  const namespace = /** @type {any} */ (env)[name];
  /** @type {any} */ (env)[name] = {
    /** @param {string} text */
    idFromName: (text) => namespace.idFromName(text),
    /** @param {unknown[]} args */
    get: (...args) => failingStub(namespace.get(...args)),
  };
}

export default class extends Entry {
  /** @param {Request} request */
  async fetch(request) {
    if (new URL(request.url).pathname !== "/failing") return super.fetch(request);
    if (request.method === "POST") failing = { .../** @type {any} */ (await request.json()), calls: 0 };
    return Response.json(failing ?? null);
  }
}
