// @ts-check
// The Worker as `npm start` serves it: entry.mjs, given bodies that have been read. `wrangler dev` ends when one is
// answered unread (see scripts/front.mjs, which bounds them); deployed, the platform sees to that.
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
