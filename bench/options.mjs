// @ts-check
import { parseArgs } from "node:util";

/**
 * @typedef {{ rounds: number, seconds: number, connections: number, only: string[] | null, build: boolean,
 *   gateway: "gateway" | "comparator", startups: number }} Options
 */

/** The scenarios of the model endpoints. */
export const MODEL_PARTS = ["chat", "stream", "body"];
export const PARTS = [
  ...["a", "b", "c", "d", "e", "f", "checks", "mcp", "tools"],
  ...MODEL_PARTS,
  ...["startup", "registry", "costs"],
];

export const USAGE = `node bench/run.mjs [--quick] [--scenario b,c] [--rounds N] [--seconds N] [--connections N] [--no-build]

  --quick        one round of two seconds
  --scenario     only these parts: ${PARTS.join(", ")}
  --rounds       rounds of each scenario (5)
  --seconds      measured seconds of a round (5)
  --connections  requests under way at any time (32)
  --no-build     measure build/ as it is
`;

/** @param {string | undefined} text @param {number} otherwise @param {string} name @param {number} most */
function number(text, otherwise, name, most) {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Error(`--${name} takes a whole number from 1 to ${most}`);
  return value;
}

/** @param {string[]} args @returns {Options | null} null if only help was requested */
export function readOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean" },
      scenario: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      connections: { type: "string" },
      "no-build": { type: "boolean" },
      help: { type: "boolean" },
      // For work on the benchmark itself: the comparator stands in for the gateway, so every ratio should be near 1.
      gateway: { type: "string" },
    },
  });
  if (values.help) return null;
  const only = values.scenario?.split(",").map((part) => part.trim()) ?? null;
  const unknown = only?.filter((part) => !PARTS.includes(part)) ?? [];
  if (unknown.length > 0) throw new Error(`--scenario knows ${PARTS.join(", ")}, not ${unknown.join(", ")}`);
  return {
    rounds: number(values.rounds, values.quick ? 1 : 5, "rounds", 50),
    seconds: number(values.seconds, values.quick ? 2 : 5, "seconds", 120),
    connections: number(values.connections, 32, "connections", 512),
    only,
    build: values["no-build"] !== true,
    gateway: values.gateway === "comparator" ? "comparator" : "gateway",
    startups: 5,
  };
}
