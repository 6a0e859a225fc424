// @ts-check
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";

/**
 * What one part does: with `kills`, and with `proxied` through the proxy, for `minutes` where nothing is killed.
 * @typedef {{ name: string, kills: number, contexts: number, proxied: boolean, minutes: number, clients: number, seed: number }} Part
 * Many sockets.
 * @typedef {{ sockets: number, seed: number }} Sockets
 * A service that connects, killed so often.
 * @typedef {{ serviceKills: number, seed: number }} ServiceKills
 * A webhook that many events wait for.
 * @typedef {{ backlog: true, seed: number }} Backlog
 * The simulation of the core, over so many seeds.
 * @typedef {{ seeds: number }} Simulated
 * Schemathesis over openapi.json.
 * @typedef {{ examples: number, seed: number }} Checked
 */

export const USAGE = `npm run fault                        50 kills, then 3 minutes through the proxy, many sockets, kills of a service that connects, the
                                     simulation, Schemathesis
npm run fault -- --kills 6           only kills
npm run fault -- --proxy             only the proxy
npm run fault -- --sockets           only many sockets
npm run fault -- --backlog           only a webhook that 10,000 events wait for
npm run fault -- --service-kills 20  only kills of a service that connects
npm run fault -- --seeds 100000      only the simulation of the core
npm run fault -- --schemathesis      only Schemathesis over openapi.json (needs python3)
npm run fault -- --kills 6 --proxy   kills, with the proxy between gateway and service

  --kills N     how often the gateway is killed
  --contexts N  at least so many are acknowledged under kills (100 for each kill)
  --proxy       between gateway and service: a closed port, resets, drips, storms of 429 and 503, wrong lengths,
                answers that never end or come too late
  --minutes N   how long the proxy is at it when nothing is killed (3)
  --sockets     5,000 sockets over hub and shards, of which 1,000 break; sleep; one of 1,000 that does not read
  --crowd N     as many instead of 5,000, the rest in proportion
  --service-kills N  how often a service that connects is killed (20)
  --backlog     10,000 events while nobody is at a webhook, and then somebody
  --seeds N     worlds the simulation of the core runs, one for each seed (1000000)
  --examples N  requests Schemathesis makes up for each operation and each of its phases (200)
  --clients N   clients at a time; every other one sends an Idempotency-Key and repeats what failed (24)
  --seed N      for the choices of clients, service, killer, proxy and Schemathesis; times still differ from run to run
                (random, printed)

The figures are printed, and kept as JSON in tests/fault/results/. Ends with 1 when anything was violated.
`;

/** @param {string | undefined} text @param {number} otherwise @param {string} name @param {number} most */
function number(text, otherwise, name, most) {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Error(`--${name} takes a whole number from 1 to ${most}`);
  return value;
}

/** @param {string[]} args @returns {(Part | Sockets | Backlog | ServiceKills | Simulated | Checked)[] | null} null when only help was asked for */
export function readOptions(args) {
  const text = /** @type {const} */ ({ type: "string" });
  const { values } = parseArgs({
    args,
    options: {
      kills: text,
      contexts: text,
      minutes: text,
      clients: text,
      seed: text,
      seeds: text,
      examples: text,
      crowd: text,
      "service-kills": text,
      proxy: { type: "boolean" },
      sockets: { type: "boolean" },
      backlog: { type: "boolean" },
      schemathesis: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help) return null;
  const { kills, proxy = false } = values;
  if (values.minutes !== undefined && kills !== undefined) throw new Error("--minutes is for runs without --kills");
  if (values.contexts !== undefined && kills === undefined && proxy)
    throw new Error("--contexts is for runs with kills");
  const common = {
    clients: number(values.clients, 24, "clients", 256),
    seed: number(values.seed, randomInt(1, 2 ** 31), "seed", 2 ** 31),
  };
  const times = number(kills, 50, "kills", 1000);
  const killing = {
    ...common,
    kills: times,
    contexts: number(values.contexts, 100 * times, "contexts", 1_000_000),
    minutes: 0,
  };
  const through = {
    ...common,
    kills: 0,
    contexts: 0,
    minutes: number(values.minutes, 3, "minutes", 600),
    name: "proxy",
    proxied: true,
  };
  const simulated = { seeds: number(values.seeds, 1_000_000, "seeds", 1_000_000_000) };
  const many = { sockets: number(values.crowd, 5000, "crowd", 30_000), seed: common.seed };
  const serviceKills = { serviceKills: number(values["service-kills"], 20, "service-kills", 1000), seed: common.seed };
  const checked = { examples: number(values.examples, 200, "examples", 100_000), seed: common.seed };
  const waiting = { backlog: /** @type {const} */ (true), seed: common.seed };
  const chosen = { sockets: values.sockets ? [many] : [], checked: values.schemathesis ? [checked] : [] };
  const killed = values["service-kills"] === undefined ? [] : [serviceKills];
  const also = [
    ...chosen.sockets,
    ...(values.backlog ? [waiting] : []),
    ...killed,
    ...(values.seeds === undefined ? [] : [simulated]),
    ...chosen.checked,
  ];
  if (kills !== undefined) return [{ ...killing, name: proxy ? "kills-proxy" : "kills", proxied: proxy }, ...also];
  if (proxy) return [through, ...also];
  if (also.length > 0) return also;
  return [{ ...killing, name: "kills", proxied: false }, through, many, waiting, serviceKills, simulated, checked];
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
