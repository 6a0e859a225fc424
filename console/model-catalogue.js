// The models that the signed-in key may use, and what serves each of them, as far as the key may read it.
import { get, getIfAllowed, getServices } from "./api.js";
import { percent } from "./format.js";
import { may } from "./session.js";

/** Services that are read to find those that have a model. */
const MAX_SERVICES = 1000;
/** Stands for every name that a service does not list. */
const ANY = "*";
/** What `owned_by` says of a route. */
const GATEWAY = "narthex";

/** @typedef {{ id: string, owned_by: string }} ListedModel */
/** @typedef {{ service: string, model: string, tier: number, weight: number }} Target */
/** @typedef {{ name: string, description?: string, content?: string, targets: Target[] }} Route */

/**
 * @typedef {object} ModelCatalogue
 * @property {ListedModel[]} models those that the key may use
 * @property {Page<Route> | undefined} routes undefined if the key may not read them
 * @property {Service[] | undefined} services undefined if the key may not read them
 */

/**
 * `targets` is empty if the key may not read them.
 * @typedef {{ name: string, isRoute: boolean, route?: Route | undefined, targets: Target[] }} Model
 */

/** @returns {Promise<ModelCatalogue>} */
export async function readModels() {
  const [list, routes, page] = await Promise.all([
    get("/v1/models"),
    may("models:read") ? getIfAllowed("/v1/model-routes") : undefined,
    may("services:read") ? getServices(MAX_SERVICES) : undefined,
  ]);
  return { models: list.data, routes, services: page?.data };
}

/**
 * What a name stands for: a route, else an id that services list, else a service and a name there.
 * @param {ModelCatalogue} catalogue
 * @param {string} name
 * @returns {Model}
 */
export function findModel({ models, routes, services = [] }, name) {
  const route = routes?.data.find((one) => one.name === name);
  if (route) return { name, isRoute: true, route, targets: route.targets };
  const listing = services.filter((service) => lists(service, name));
  if (listing.length > 0) return { name, isRoute: false, targets: listing.map((one) => targetAt(one, name)) };
  const [id = "", rest] = name.split(/\/(.*)/s);
  const named = services.find(
    (service) => service.id === id && rest && (takesAnyName(service) || offers(service, rest)),
  );
  if (named && rest) return { name, isRoute: false, targets: [{ ...targetAt(named, rest), tier: 0, weight: 1 }] };
  const owner = models.find((one) => one.id === name)?.owned_by;
  const isRoute = owner === GATEWAY;
  const targets = owner && !isRoute ? [{ service: owner, model: name, tier: 0, weight: 1 }] : [];
  return { name, isRoute, targets };
}

/**
 * @param {Service} service
 * @param {string} model
 * @returns {Target}
 */
const targetAt = ({ id, tier, weight }, model) => ({ service: id, model, tier, weight });

/**
 * Whether a service has a model of this name that clients reach by the name alone.
 * @param {Service} service
 * @param {string} name
 * @returns {boolean}
 */
const lists = (service, name) => (service.models ? offers(service, name) : service.transport.model === name);

/**
 * @param {Service} service
 * @param {string} name
 * @returns {boolean}
 */
const offers = ({ models = [] }, name) => models.some(({ id }) => id === name && id !== ANY);

/**
 * Whether a service takes names that it does not list.
 * @param {Service} service
 * @returns {boolean}
 */
export const takesAnyName = ({ models, transport }) =>
  ["openai", "anthropic"].includes(transport.kind) && (models?.some(({ id }) => id === ANY) ?? true);

/**
 * What a service states about a model.
 * @param {ModelCatalogue} catalogue
 * @param {Target} target
 * @returns {Offer | undefined}
 */
export function offerOf({ services }, { service, model }) {
  const models = services?.find(({ id }) => id === service)?.models;
  return models?.find(({ id }) => id === model) ?? models?.find(({ id }) => id === ANY);
}

/**
 * The address of a model's page.
 * @param {string} name
 * @returns {string}
 */
export const modelHash = (name) => `#/models/${encodeURIComponent(name)}`;

/**
 * Targets by tier, the lowest first.
 * @param {Target[]} targets
 * @returns {Target[][]}
 */
function tiersOf(targets) {
  const byTier = Map.groupBy(targets, ({ tier }) => tier);
  return [...byTier].sort(([one], [other]) => one - other).map(([, some]) => some);
}

/**
 * The share of the conversations that a target gets while its whole tier can be called.
 * @param {Target} target
 * @param {Target[]} targets
 * @returns {string} empty if it has no equals
 */
function shareOf({ tier, weight }, targets) {
  const equals = targets.filter((one) => one.tier === tier);
  if (equals.length === 1) return "";
  return percent(
    weight,
    equals.reduce((sum, one) => sum + one.weight, 0),
  );
}

/**
 * What becomes of a target: its share, and whether others come first.
 * @param {Target} target
 * @param {Target[]} targets
 * @returns {string}
 */
export function roleOf(target, targets) {
  const isFirst = targets.every(({ tier }) => tier >= target.tier);
  const share = shareOf(target, targets);
  return [!isFirst && `fallback, tier ${target.tier}`, share && `${share} of conversations`].filter(Boolean).join(", ");
}

/**
 * The name of a target on the page of a model: its service, with the name there unless the model's own name says it.
 * @param {Target} target
 * @param {Model} model
 * @returns {string}
 */
export function placeOf({ service, model }, { name, isRoute }) {
  const place = `${service}/${model}`;
  return !isRoute && [model, place].includes(name) ? service : place;
}

/**
 * What serves a model, in one line.
 * @param {Model} model
 * @returns {string}
 */
export function targetsText(model) {
  const { targets } = model;
  const tiers = tiersOf(targets).map((equals) =>
    equals
      .map((target) => {
        const share = shareOf(target, targets);
        const place = placeOf(target, model);
        return share ? `${place} (${share})` : place;
      })
      .join(", "),
  );
  return tiers.join("; then ");
}
