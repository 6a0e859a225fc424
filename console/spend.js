// What contexts have used and owe, by model: a table of the screen Now.
import { link, section } from "./components.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { modelHash } from "./model-catalogue.js";

const HEADS = ["Model", "Ended", "Tokens in", "Tokens out", "Spend"];

/**
 * Amounts by currency, each with the part that is estimated.
 * @param {UsageGroup} group
 * @returns {string}
 */
export const spendText = ({ spend }) =>
  (spend ?? []).map(({ amount, currency, estimated }) => `${amount} ${currency}${partText(estimated)}`).join(", ");

/**
 * @param {string} estimated
 * @returns {string}
 */
const partText = (estimated) => (Number(estimated) > 0 ? ` (${estimated} estimated)` : "");

/**
 * A table with a row for each model; nothing while there is neither a model nor spend.
 * @param {Figures} figures
 * @returns {Child[]}
 */
export function buildSpend({ models = [] }) {
  const rows = models.filter(({ model, spend }) => model || spend?.length);
  if (rows.length === 0) return [];
  const heads = HEADS.map((name) => h("th", { scope: "col" }, name));
  const table = h("table", h("thead", h("tr", heads)), h("tbody", rows.map(buildRow)));
  return [
    section(
      "Tokens and spend",
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Tokens and spend" }, table),
    ),
  ];
}

/**
 * @param {UsageGroup} group
 * @returns {HTMLElement}
 */
function buildRow(group) {
  const { model, tokens, completed, failed, cancelled, timed_out } = group;
  const cells = [
    number(completed + failed + cancelled + timed_out),
    number(tokens?.input ?? 0),
    number(tokens?.output ?? 0),
    spendText(group),
  ];
  return h(
    "tr",
    { "data-key": model ?? "" },
    h("th", { scope: "row" }, modelName(model)),
    cells.map((cell) => h("td", cell)),
  );
}

/**
 * @param {string | null | undefined} model
 * @returns {Child}
 */
function modelName(model) {
  if (!model) return "Without a model";
  return model === "*" ? "Other models" : link(model, modelHash(model));
}
