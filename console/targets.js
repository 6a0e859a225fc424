// The targets of a model route as lines of text, for a form.
import { InputError } from "./form.js";

/** @import { Target } from "./model-catalogue.js" */

/** `service/model`, and what differs from its default. Neither names of services nor names of models have commas. */
const LINE = /^([^/\s,]+)\/([^\s,]+)(?:,\s*tier\s+(\d+))?(?:,\s*weight\s+(\d+))?$/;
const FORM = "must be a service and its model, such as openai/gpt-5-mini, tier 1, weight 3";

/** @type {JsonSchema} */
export const TARGETS_FIELD = {
  title: "Targets",
  type: "array",
  items: { type: "string" },
  description:
    "Models of services. The lowest tier serves, 0 if you name none; higher ones are fallbacks. Equal tiers share the " +
    "conversations by weight.",
  examples: ["openai/gpt-5-mini, weight 3\nlocal/llama\nclaude/claude-haiku, tier 1"],
};

/**
 * @param {Target[]} targets
 * @returns {string[]}
 */
export const linesOf = (targets) =>
  targets.map(({ service, model, tier, weight }) =>
    [`${service}/${model}`, tier !== 0 && `tier ${tier}`, weight !== 1 && `weight ${weight}`]
      .filter(Boolean)
      .join(", "),
  );

/**
 * @param {string[]} lines
 * @returns {Target[]}
 * @throws {InputError} if some are not targets
 */
export function targetsOf(lines) {
  const targets = lines.map(targetOf);
  const wrong = targets.flatMap((target, at) => (target ? [] : [{ pointer: `#/targets/${at}`, detail: FORM }]));
  if (wrong.length > 0) throw new InputError("Not saved.", wrong);
  return targets.filter((target) => target !== undefined);
}

/**
 * @param {string} line
 * @returns {Target | undefined}
 */
function targetOf(line) {
  const [, service, model, tier = "0", weight = "1"] = line.match(LINE) ?? [];
  return service && model ? { service, model, tier: Number(tier), weight: Number(weight) } : undefined;
}
