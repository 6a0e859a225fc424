// Parts of the screens that show models: a target with what its service states, and a form for other names.
import { jsonBlock, link } from "./components.js";
import { h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { modelHash } from "./model-catalogue.js";
import { hasMorePrices, priceText, sizeText } from "./model-words.js";

/**
 * A model of a service.
 * @param {object} options
 * @param {string} options.title
 * @param {string} options.href
 * @param {string} [options.role] what becomes of it
 * @param {Offer} [options.offer]
 * @returns {HTMLElement}
 */
export function buildOffer({ title, href, role, offer }) {
  const { upstream } = offer ?? {};
  return h(
    "li.card",
    { "data-key": title },
    h("strong", link(title, href)),
    role && h("span.soft", role),
    upstream && h("span.soft.pair", "upstream ", h("code", upstream)),
    offer && h("span.soft", sizeText(offer)),
    offer && h("span.soft", priceText(offer)),
    offer && hasMorePrices(offer) && buildPrices(title, offer),
  );
}

/**
 * @param {string} title
 * @param {Pick<Offer, "prices">} offer
 * @returns {HTMLElement}
 */
const buildPrices = (title, { prices }) =>
  h("details", { "data-key": "prices" }, h("summary", "All prices"), jsonBlock(`Prices of ${title}`, prices));

/**
 * What a model costs at a service, and where that is from.
 * @param {TargetPrices} target
 * @returns {HTMLElement}
 */
export function buildTargetPrices({ service, model, origin, prices }) {
  const { as_of, source } = prices;
  const isList = origin === "list";
  const place = `${service}/${model}`;
  return h(
    "li.card",
    { "data-key": place },
    h("strong", place),
    h("span.soft", priceText({ prices })),
    h("span.soft", isList ? "list price of the provider" : "named by the service", as_of && ` as of ${as_of}`),
    source && h("span.soft.pair", "source ", source.startsWith("https://") ? link(source, source) : source),
    hasMorePrices({ prices }) && buildPrices(place, { prices }),
  );
}

/**
 * A form that opens a model which is not listed.
 * @param {Service[]} services those that take any name
 * @returns {HTMLElement}
 */
export function buildNameForm(services) {
  const ids = services.map(({ id }) => id);
  const name = {
    title: "Another name",
    type: "string",
    description: `Any model of ${ids.join(", ")}, after its service and a slash.`,
    examples: [`${ids[0]}/gpt-5-mini`],
  };
  return buildForm({
    fields: fieldsFor({ required: ["name"], properties: { name } }, ""),
    submitLabel: "Open",
    send: (/** @type {{ name: string }} */ values) => {
      location.hash = modelHash(values.name.trim());
    },
  });
}
