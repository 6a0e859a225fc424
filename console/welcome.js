// First steps, for a gateway without services.
import { get, getDeployment, request } from "./api.js";
import { button, link } from "./components.js";
import { fill, h } from "./dom.js";
import { may } from "./session.js";

/** @returns {HTMLElement} */
export function welcome() {
  const mayRegister = may("services:write");
  const demo = h("div.stack");
  if (mayRegister) void offerDemo(demo);
  return h(
    "div.card.stack.narrow",
    h("h2", "Nothing here yet"),
    h(
      "ol",
      h("li", h("strong", "Register a service"), " with its URL and its capabilities."),
      h("li", h("strong", "Try it"), " on its page, and watch the context here, live."),
      h("li", link("Connect", "#/connect"), " your programs, each with its own key."),
    ),
    mayRegister
      ? h("p", link("Register a service", "#/services/new", "button primary"))
      : h("p.note", "Your key cannot register services. A key with the built-in role operator can."),
    demo,
  );
}

/**
 * Offers the demonstration, if the deployment has it.
 * @param {HTMLElement} place
 * @returns {Promise<void>}
 */
async function offerDemo(place) {
  try {
    const { demo } = await getDeployment();
    if (!demo) return;
    const document = await get("/demo.json");
    fill(
      place,
      h("p", "No service at hand? Start the built-in demonstration. You can delete it at any time."),
      button("Start the demonstration", () => startDemo(document)),
    );
  } catch {
    // The other steps remain.
  }
}

/**
 * @param {unknown} document
 * @returns {Promise<void>}
 */
async function startDemo(document) {
  await request("PUT", "/v1/services/demo", { body: document, headers: { "if-none-match": "*" } });
  location.hash = "#/services/demo";
}
