// The screen Connect: how to call this gateway from elsewhere.
import { getIfAllowed } from "./api.js";
import { link, textBlock } from "./components.js";
import { fill, h } from "./dom.js";
import { exampleOf } from "./schema.js";
import { may } from "./session.js";
import { librarySnippets, snippetsFor } from "./snippets.js";

/** Shown if the user has no capability to choose. */
const EXAMPLE_NAME = "word_count";

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function connect({ view }) {
  const capabilities = await readCapabilities();
  const snippets = h("div.stack");

  function draw() {
    const body = exampleBody(capabilities, capabilities[Number(choice.value)]);
    const blocks = Object.entries({ ...snippetsFor(location.origin, body), ...librarySnippets(location.origin) });
    fill(
      snippets,
      blocks.map(([title, text]) => textBlock(title, text)),
    );
  }

  const options = capabilities.map((capability, at) => h("option", { value: at }, labelOf(capabilities, capability)));
  const choice = h("select", { id: "capability", onchange: draw }, options);
  draw();
  fill(
    view,
    h("h1", "Connect"),
    buildAdvice(),
    options.length > 0 && h("div.field.narrow", h("label", { for: "capability" }, "Capability"), choice),
    snippets,
    h(
      "p.soft",
      "API reference: ",
      link("openapi.json", "/openapi.json"),
      ", ",
      link("asyncapi.json", "/asyncapi.json"),
    ),
  );
}

/** @returns {Promise<Capability[]>} */
async function readCapabilities() {
  const page = may("services:read") ? await getIfAllowed("/v1/capabilities") : undefined;
  return page?.data ?? [];
}

/** @returns {HTMLElement} */
const buildAdvice = () =>
  h(
    "p",
    "Set the environment variable NARTHEX_KEY to ",
    link("a key", "#/access/keys"),
    " with the role caller. Use one key for each program.",
  );

/**
 * Whether a capability exists in one version only.
 * @param {Capability[]} capabilities
 * @param {Capability} capability
 * @returns {boolean}
 */
const isOnlyVersion = (capabilities, { name }) => capabilities.filter((other) => other.name === name).length === 1;

/**
 * @param {Capability[]} capabilities
 * @param {Capability} capability
 * @returns {string}
 */
function labelOf(capabilities, capability) {
  const { name, version } = capability;
  return isOnlyVersion(capabilities, capability) ? name : `${name} ${version}`;
}

/**
 * The body of a request that creates a context, with parameters made up from the input schema.
 * @param {Capability[]} capabilities
 * @param {Capability | undefined} capability
 * @returns {string}
 */
function exampleBody(capabilities, capability) {
  if (!capability) return JSON.stringify({ capability: EXAMPLE_NAME, parameters: exampleOf(undefined) });
  const { name, version, input_schema } = capability;
  const versionMember = isOnlyVersion(capabilities, capability) ? {} : { version: `=${version}` };
  return JSON.stringify({ capability: name, ...versionMember, parameters: exampleOf(input_schema) });
}
