// @ts-check
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";

/**
 * One part: with `kills`, with `proxied` through the proxy, for `minutes` if nothing is killed.
 * @typedef {{ name: string, kills: number, contexts: number, proxied: boolean, minutes: number, clients: number,
 *   seed: number }} Part
 * Many sockets.
 * @typedef {{ sockets: number, seed: number }} Sockets
 * A connected service, killed this many times.
 * @typedef {{ serviceKills: number, seed: number }} ServiceKills
 * A webhook with a long delivery queue.
 * @typedef {{ backlog: true, seed: number }} Backlog
 * The simulation of the core, with this many seeds.
 * @typedef {{ seeds: number }} Simulated
 * Schemathesis over openapi.json.
 * @typedef {{ examples: number, seed: number }} Checked
 */

export const USAGE = `npm run fault                        50 kills, then 3 minutes through the proxy, many sockets, kills of a connected
                                     service, the simulation, Schemathesis
npm run fault -- --kills 6           only kills
npm run fault -- --proxy             only the proxy
npm run fault -- --sockets           only many sockets
npm run fault -- --backlog           only a webhook with 10,000 queued events
npm run fault -- --service-kills 20  only kills of a connected service
npm run fault -- --seeds 100000      only the simulation of the core
npm run fault -- --schemathesis      only Schemathesis over openapi.json (needs python3)
npm run fault -- --kills 6 --proxy   kills, with the proxy between gateway and service

  --kills N     how often the gateway is killed
  --contexts N  acknowledged contexts under kills, at least (100 for each kill)
  --proxy       between gateway and service: a closed port, resets, drips, storms of 429 and 503, wrong lengths,
                answers that never end or come too late
  --minutes N   duration of the proxy part when nothing is killed (3)
  --sockets     5,000 sockets over hub and shards, of which 1,000 break; hibernation; one reader in 1,000 that stops reading
  --crowd N     this many sockets instead of 5,000, the rest in proportion
  --service-kills N  how often a connected service is killed (20)
  --backlog     10,000 events while a webhook's receiver is down, then deliveries once it is back
  --seeds N     runs of the core's simulation, one for each seed (1000000)
  --examples N  requests that Schemathesis generates for each operation and phase (200)
  --clients N   concurrent clients; every other one sends an Idempotency-Key and repeats failed requests (24)
  --seed N      for the choices of clients, service, killer, proxy and Schemathesis; times still differ from run to run
                (random, printed)

NARTHEX_TARGET=serve kills \`narthex serve\` of the last build instead of \`npm start\`.

The figures are printed and written as JSON to tests/fault/results/. The exit code is 1 if anything was violated.
`;

/** @param {string | undefined} text @param {number} otherwise @param {string} name @param {number} most */
function number(text, otherwise, name, most) {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Error(`--${name} takes a whole number from 1 to ${most}`);
  return value;
}

/**
 * @param {string[]} args
 * @returns {(Part | Sockets | Backlog | ServiceKills | Simulated | Checked)[] | null} null if only help was requested
 */
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

/**
 * The same choices for the same seed and player, independently of the others.
 * @param {number} seed @param {string} player @returns {Dice}
 */
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
