// The screen of one model: what serves it, a chat to try it, and the same call for programs.
import { getIfAllowed } from "./api.js";
import { Chat } from "./chat.js";
import { chatBody } from "./chat-stream.js";
import { link, screenTitle, section, textBlock } from "./components.js";
import { fill, h } from "./dom.js";
import { keepsModel } from "./kept-content.js";
import { findModel, modelHash, offerOf, placeOf, readModels, roleOf } from "./model-catalogue.js";
import { buildOffer, buildTargetPrices } from "./model-parts.js";
import { leadBack } from "./navigation.js";
import { may } from "./session.js";
import { chatSnippets, librarySnippets } from "./snippets.js";

/** @import { Message } from "./chat-stream.js" */
/** @import { Model, ModelCatalogue } from "./model-catalogue.js" */

/** @type {Message[]} */
const EXAMPLE = [{ role: "user", content: "A haiku about doors" }];

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function model({ view, id = "", signal }) {
  const name = decodeURIComponent(id);
  const [catalogue, listed] = await Promise.all([
    readModels(),
    getIfAllowed(`/v1/models/${encodeURIComponent(name)}?prices=true`),
  ]);
  /** @type {TargetPrices[]} */
  const prices = listed?.prices ?? [];
  const snippets = h("div.stack");
  const found = findModel(catalogue, name);

  /** @param {Message[]} messages */
  function showSnippets(messages) {
    const body = JSON.stringify(chatBody(name, messages.length > 0 ? messages : EXAMPLE));
    const blocks = { ...chatSnippets(location.origin, body), ...librarySnippets(location.origin) };
    fill(
      snippets,
      Object.entries(blocks).map(([title, text]) => textBlock(title, text)),
    );
  }

  const isKept = keepsModel(catalogue, found);
  const chat = new Chat(name, { signal, isKept, onSend: showSnippets });
  showSnippets(chat.messages);
  fill(
    view,
    leadBack(link("← Models", "#/models")),
    screenTitle(name, found.isRoute && h("span.badge", "route")),
    found.route && buildRouteFacts(found.route),
    isKept && h("p.note", "Content kept: the gateway stores requests and responses until retention ends."),
    found.targets.length > 0 && section("Served by", buildTargets(catalogue, found)),
    prices.length > 0 && section("Prices", h("ul.rows.plain", prices.map(buildTargetPrices))),
    section("Chat", chat.element),
    section("The same from elsewhere", buildAdvice(), snippets),
  );
}

/** @returns {HTMLElement} */
const buildAdvice = () =>
  h(
    "p.soft",
    "Set the environment variable NARTHEX_KEY to ",
    link("a key", "#/access/keys"),
    " that may use this model. Libraries need only their two settings.",
  );

/**
 * @param {{ name: string, description?: string }} route
 * @returns {HTMLElement}
 */
const buildRouteFacts = ({ name, description }) =>
  h(
    "div.row",
    description && h("p", description),
    may("models:write") && link("Edit route", `#/models?tab=routes&show=${encodeURIComponent(name)}`, "button"),
  );

/**
 * @param {ModelCatalogue} catalogue
 * @param {Model} model
 * @returns {HTMLElement}
 */
function buildTargets(catalogue, model) {
  const { targets } = model;
  const rows = targets.map((target) => {
    const title = placeOf(target, model);
    const href = may("services:read") ? `#/services/${target.service}` : modelHash(`${target.service}/${target.model}`);
    const offer = offerOf(catalogue, target);
    return buildOffer({ title, href, role: roleOf(target, targets), ...(offer && { offer }) });
  });
  return h("ul.rows.plain", rows);
}
