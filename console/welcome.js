// What to do first, in a gateway that has no service yet.
import { ask, may, maybe } from "./api.js";
import { button, h, link, say } from "./dom.js";

/** Registers the demonstration that is built in. @param {any} body */
async function startDemo(body) {
  await ask("PUT", "/v1/services/demo", { body, headers: { "if-none-match": "*" } });
  say("The demonstration is registered.");
  location.hash = "#/services/demo";
}

/** @param {AbortSignal} signal */
export function welcome(signal) {
  const [writes, demo] = [may("services:write"), h("div.stack")];
  // A deployment may have switched it off.
  if (writes) {
    void maybe("/demo.json", signal).then((document) => document && demo.append(
      h("p", "Nothing at hand? A demonstration is built in. It needs nothing else, and can be deleted again."), button("Start the demonstration", () => startDemo(document))), () => {});
  }
  return h("div.card.stack.narrow", h("h2", "Nothing here yet"), h("p", "This gateway takes work from your programs and gives it to services. Begin so:"),
    h("ol", h("li", h("strong", "Register a service"), ": its address, and what it can do."), h("li", h("strong", "Try it"), " on its page. What becomes of it is shown here, live."), h("li", link("Connect", "#/connect"), " your programs, each with a key of its own.")),
    writes ? h("p", link("Register a service", "#/services/new", "button primary")) : h("p.note", "Your key may not register services. One with the role operator may."), demo);
}
