// The screen Models: the models that the key may use, with what serves each, and the routes behind names of its own.
import { get } from "./api.js";
import { badge, button, tabList } from "./components.js";
import { DocumentList } from "./document-list.js";
import { fill, h } from "./dom.js";
import { keepsModel } from "./kept-content.js";
import { follow } from "./live.js";
import { findModel, modelHash, offerOf, readModels, takesAnyName, targetsText } from "./model-catalogue.js";
import { buildNameForm } from "./model-parts.js";
import { shortPriceText, sizeText } from "./model-words.js";
import { currentIdentity, may, mayUseModels } from "./session.js";
import { SteadyList } from "./steady-list.js";
import { firstModel } from "./welcome.js";

/** @import { Model, ModelCatalogue } from "./model-catalogue.js" */

const RELOAD_MS = 500;
/** How many models are shown at first, and with each click on "Load more". */
const PAGE_SIZE = 100;
const ABOUT = "The names that you can ask for at the endpoints of models. Open one to chat with it.";

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function models({ view, query, signal }) {
  const mayReadRoutes = may("models:read");
  const isRoutes = mayReadRoutes && query.get("tab") === "routes";
  const body = h("div.stack");
  fill(view, h("h1", "Models"), mayReadRoutes && buildTabs(isRoutes), body);
  if (!isRoutes) return showModels(body, signal);
  const page = await get("/v1/model-routes");
  await new DocumentList("model-routes", { page, shownId: query.get("show"), signal }).showIn(body);
}

/**
 * @param {boolean} isRoutes
 * @returns {HTMLElement}
 */
const buildTabs = (isRoutes) =>
  tabList("Models", [
    { name: "models", href: "#/models", isCurrent: !isRoutes },
    { name: "routes", href: "#/models?tab=routes", isCurrent: isRoutes },
  ]);

/**
 * Shows the models that the key may use, and keeps the list up to date.
 * @param {HTMLElement} body
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
async function showModels(body, signal) {
  const list = h("ul.rows.plain.models");
  const others = h("div");
  let wanted = PAGE_SIZE;
  /** @type {ModelCatalogue} */
  let catalogue;
  const rows = new SteadyList({
    element: list,
    name: "Models",
    signal,
    buildRow: ({ id, isGone }) => buildRow(catalogue, id, isGone),
  });
  const content = [h("p.soft", ABOUT), h("div", h("div.floating", rows.news), list), others];
  /** What the screen is made for: other things of the catalogue do not change its elements. */
  let shown = "";

  async function load() {
    catalogue = await readModels();
    const open = catalogue.services?.filter(takesAnyName) ?? [];
    const isEmpty = catalogue.models.length + open.length === 0 || !mayUseModels();
    const wantedElements = isEmpty ? reasonOf(catalogue) : `models ${open.map(({ id }) => id).join(" ")}`;
    if (wantedElements !== shown) {
      shown = wantedElements;
      fill(others, open.length > 0 && buildNameForm(open));
      if (isEmpty) fill(body, buildEmpty(catalogue));
      else if (!list.isConnected) fill(body, content);
    }
    if (!isEmpty) draw();
  }

  function draw() {
    const hasMore = catalogue.models.length > wanted;
    const more = h("li", { "data-key": "more" }, button("Load more", loadMore));
    rows.show(catalogue.models, { limit: wanted, after: [hasMore && more] });
  }

  function loadMore() {
    wanted += PAGE_SIZE;
    draw();
  }

  follow({
    signal,
    everyMs: RELOAD_MS,
    load,
    onEvent: ({ type }) => type.startsWith("service.") && type !== "service.status",
  });
  await load();
}

/**
 * @param {ModelCatalogue} catalogue
 * @param {string} name
 * @param {boolean | undefined} isGone
 * @returns {HTMLElement}
 */
function buildRow(catalogue, name, isGone) {
  const model = findModel(catalogue, name);
  const offers = model.targets.map((target) => offerOf(catalogue, target)).filter((offer) => offer !== undefined);
  const card = h(
    "a.card",
    { href: modelHash(name) },
    h("strong", name),
    isGone ? badge("gone") : h("span.soft", servedText(model)),
    offers.length > 0 && h("span.soft", inOneText(offers.map(offerText))),
    keepsModel(catalogue, model) && h("span.soft", "content kept"),
  );
  return h("li", { "data-key": name, class: isGone && "gone" }, card);
}

/**
 * @param {Model} model
 * @returns {string}
 */
function servedText(model) {
  const targets = targetsText(model);
  if (!model.isRoute) return targets;
  return targets ? `route to ${targets}` : "a route";
}

/**
 * What all targets of a model state, as long as it is the same.
 * @param {string[]} texts
 * @returns {string}
 */
function inOneText(texts) {
  const [first = "", ...others] = new Set(texts);
  return others.length > 0 ? "context window and prices differ" : first;
}

/**
 * @param {Offer} offer
 * @returns {string}
 */
const offerText = (offer) => [sizeText(offer), shortPriceText(offer)].filter(Boolean).join(" · ");

/**
 * Why there are no models.
 * @param {ModelCatalogue} catalogue
 * @returns {"forbidden" | "others" | "none" | "none but the demonstration"}
 */
function reasonOf({ routes, services = [] }) {
  if (!mayUseModels()) return "forbidden";
  const isOffered = (routes?.data ?? []).length > 0 || services.some(({ models = [] }) => models.length > 0);
  if (isOffered) return "others";
  return services.some(({ id }) => id === "demo") ? "none but the demonstration" : "none";
}

/**
 * Why there are no models, in words, and what to do about it.
 * @param {ModelCatalogue} catalogue
 * @returns {HTMLElement}
 */
function buildEmpty(catalogue) {
  const reason = reasonOf(catalogue);
  if (reason === "forbidden") {
    return h(
      "p.note",
      "Your key may not use any model. A permission such as models:use:gpt-* allows some, models:use:* all; the " +
        "built-in roles caller and operator have the latter.",
    );
  }
  if (reason === "others") {
    const permissions = currentIdentity()?.permissions.filter((one) => one.startsWith("models:use:")) ?? [];
    return h("p.note", `There are models, but your key may use only those that it names: ${permissions.join(", ")}.`);
  }
  return firstModel(reason !== "none");
}
