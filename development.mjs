// @ts-check
// The Worker as `npm start` serves it: entry.mjs, with bodies that have been read. `wrangler dev` exits when a request
// is answered before its body is read (see scripts/front.mjs, which bounds bodies); the deployed platform handles this.
import Gateway from "./entry.mjs";

export * from "./entry.mjs";

export default class extends Gateway {
  /** @param {Request} request */
  async fetch(request) {
    if (request.body === null) return super.fetch(request);
    const body = await request.arrayBuffer();
    return super.fetch(new Request(request, { body }));
  }
}
