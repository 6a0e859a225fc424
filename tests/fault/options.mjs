// @ts-check
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";

/** @typedef {{ kills: number, clients: number, seed: number }} Options */

export const USAGE = `node tests/fault/run.mjs [--kills N] [--clients N] [--seed N]

  --kills    how often the gateway is killed (50)
  --clients  clients at a time; every other one sends an Idempotency-Key and repeats what failed (16)
  --seed     for the choices of clients, service and killer; times still differ from run to run (random, printed)
`;

/** @param {string | undefined} text @param {number} otherwise @param {string} name @param {number} most */
function number(text, otherwise, name, most) {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most) throw new Error(`--${name} takes a whole number from 1 to ${most}`);
  return value;
}

/** @param {string[]} args @returns {Options | null} null when only help was asked for */
export function readOptions(args) {
  const { values } = parseArgs({
    args,
    options: { kills: { type: "string" }, clients: { type: "string" }, seed: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help) return null;
  return {
    kills: number(values.kills, 50, "kills", 1000),
    clients: number(values.clients, 16, "clients", 256),
    seed: number(values.seed, randomInt(1, 2 ** 31), "seed", 2 ** 31),
  };
}

/** @typedef {(below: number) => number} Dice a whole number from 0 to below `below` */

/** The same choices for the same seed and player, whatever the others do. @param {number} seed @param {string} player @returns {Dice} */
export function diceOf(seed, player) {
  let state = seed >>> 0;
  for (const letter of player) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193) >>> 0;
  return (below) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
