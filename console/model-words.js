// What models can, cost and have used, in words.
import { number } from "./format.js";

/** The rates for a million tokens, by their names in the API. */
const RATES = { input: "input", cached_input: "cached input", cache_write: "cache writes", output: "output" };

/**
 * @param {Offer} offer
 * @returns {string}
 */
export function sizeText({ context_window, max_output_tokens }) {
  const sizes = [
    context_window && `${number(context_window)} tokens of context`,
    max_output_tokens && `${number(max_output_tokens)} of output`,
  ];
  return sizes.filter(Boolean).join(", ");
}

/**
 * The main rates, for a million tokens each.
 * @param {Pick<Offer, "prices">} offer
 * @returns {string}
 */
export function priceText({ prices }) {
  if (!prices) return "";
  const rates = Object.entries(RATES).flatMap(([name, words]) => {
    const rate = prices[/** @type {keyof typeof RATES} */ (name)];
    return rate === undefined ? [] : [`${rate} ${words}`];
  });
  return `${rates.join(", ")}, ${prices.currency} per million tokens`;
}

/**
 * The rates of input and output, for a million tokens each.
 * @param {Offer} offer
 * @returns {string}
 */
export const shortPriceText = ({ prices }) =>
  prices ? `${prices.input} in, ${prices.output ?? "0"} out, ${prices.currency} per million tokens` : "";

/**
 * Whether prices depend on more than the tokens' kind.
 * @param {Pick<Offer, "prices">} offer
 * @returns {boolean}
 */
export const hasMorePrices = ({ prices }) =>
  Boolean(prices && (prices.tiers ?? prices.service_tiers ?? prices.per_use ?? prices.cache_write_1h));

/**
 * @param {ModelUsage} usage
 * @returns {string}
 */
export function usageText(usage) {
  const input = [
    usage.cached_input_tokens && `${number(usage.cached_input_tokens)} cached`,
    usage.cache_write_tokens && `${number(usage.cache_write_tokens)} written to the cache`,
  ];
  const output = [usage.reasoning_tokens && `${number(usage.reasoning_tokens)} reasoning`];
  const parts = [
    `${number(usage.input_tokens)} in${ofWhich(input)}`,
    `${number(usage.output_tokens)} out${ofWhich(output)}`,
    usage.estimated && "estimated",
  ];
  return parts.filter(Boolean).join(", ");
}

/**
 * @param {(string | number)[]} parts
 * @returns {string}
 */
function ofWhich(parts) {
  const present = parts.filter(Boolean);
  return present.length > 0 ? ` (${present.join(", ")})` : "";
}

/**
 * @param {ModelCost | null | undefined} cost null if the price is not known
 * @returns {string}
 */
export const costText = (cost) =>
  cost ? `${cost.amount} ${cost.currency}${cost.estimated ? ", estimated" : ""}` : "unknown: no price";
