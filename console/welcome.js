// First steps, for a gateway without services, and for one without models.
import { get, getDeployment, request } from "./api.js";
import { button, link } from "./components.js";
import { fill, h } from "./dom.js";
import { may } from "./session.js";

/** @returns {HTMLElement} */
export function welcome() {
  const mayRegister = may("services:write");
  const demo = h("div.stack");
  const about = "No service at hand? Start the built-in demonstration.";
  if (mayRegister) void offerDemo(demo, { about, hash: "#/services/demo" });
  return h(
    "div.card.stack.narrow",
    h("h2", "Nothing here yet"),
    h(
      "ol",
      h("li", h("strong", "Register a service"), " with its URL and its capabilities."),
      h("li", h("strong", "Try it"), " on its page, and watch the context here, live."),
      h("li", link("Connect", "#/connect"), " your programs, each with its own key."),
    ),
    mayRegister ? h("p", link("Register a service", "#/services/new", "button primary")) : cannotRegister(),
    demo,
  );
}

/** @returns {HTMLElement} */
const cannotRegister = () =>
  h("p.note", "Your key cannot register services. A key with the built-in role operator can.");

/**
 * @param {boolean} hasDemo whether the demonstration has been started
 * @returns {HTMLElement}
 */
export function firstModel(hasDemo) {
  const mayRegister = may("services:write");
  const demo = h("div.stack");
  const about = "No account at hand? The built-in demonstration has a model that knows nothing, but streams.";
  if (mayRegister && !hasDemo) void offerDemo(demo, { about, hash: "#/models/demo" });
  return h(
    "div.card.stack.narrow",
    h("h2", "No models yet"),
    h(
      "ol",
      h("li", h("strong", "Register a provider"), " with its address, your key there, and its models."),
      h("li", h("strong", "Open a model"), " here, and chat with it."),
      h("li", link("Connect", "#/connect"), " your libraries and editors: two settings suffice."),
    ),
    mayRegister ? h("p", link("Register a provider", "#/services/new?for=models", "button primary")) : cannotRegister(),
    demo,
  );
}

/**
 * Offers the demonstration, if the deployment has it.
 * @param {HTMLElement} place
 * @param {{ about: string, hash: string }} options `hash`: what it leads to
 * @returns {Promise<void>}
 */
async function offerDemo(place, { about, hash }) {
  try {
    const { demo } = await getDeployment();
    if (!demo) return;
    const document = await get("/demo.json");
    fill(
      place,
      h("p", `${about} You can delete it at any time.`),
      button("Start the demonstration", () => startDemo(document, hash)),
    );
  } catch {
    // The other steps remain.
  }
}

/**
 * @param {unknown} document
 * @param {string} hash
 * @returns {Promise<void>}
 */
async function startDemo(document, hash) {
  await request("PUT", "/v1/services/demo", { body: document, headers: { "if-none-match": "*" } });
  location.hash = hash;
}
