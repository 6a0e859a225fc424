// @ts-check
// The billed cost of a context: counted by the objects themselves (`COUNT_COSTS`) in a separate short run, together
// with the contents of their SQLite files afterwards.
import { readdirSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { contextRequest, measured } from "./scenarios.mjs";
import { askCosts, queueMessages, startComparator, startGateway } from "./targets.mjs";

/**
 * @typedef {import("./targets.mjs").Target} Target
 * @typedef {import("./scenarios.mjs").Bench} Bench
 *
 * Per context: rows and requests by object, as counted.
 * @typedef {{ contexts: number, rowsWritten: Record<string, number>, rowsRead: number | null,
 *   objectRequests: Record<string, number>, alarmsSet: number | null, queueMessages: number,
 *   cpuMs: number | null }} PerContext
 * @typedef {{ files: number, bytes: number, rows: Record<string, number> }} Stored
 * @typedef {{ solitary: PerContext | null, loaded: PerContext | null, stored: Record<string, Stored>,
 *   contexts: number }} CostFigures
 */

/** So many that each of the four stores has had its first context, which creates its tables, before the count. */
const WARM_UP = 64;
const WARM_UP_EVERY_MS = 20;
const SOLITARY = 20;
const SOLITARY_EVERY_MS = 200;
const LOAD_SECONDS = 2;
/** Events are published in batches after the response; a count taken at once would miss the last of them. */
const SETTLE_MS = 2000;

/** @param {Record<string, number>} now @param {Record<string, number>} before @param {number} contexts */
const each = (now, before, contexts) =>
  Object.fromEntries(Object.entries(now).map(([name, value]) => [name, (value - (before[name] ?? 0)) / contexts]));

/** @param {Record<string, number> | undefined} values */
export const sum = (values) => Object.values(values ?? {}).reduce((total, value) => total + value, 0);

/**
 * @param {Target} target @param {() => Promise<import("./tally.mjs").LoadFigures>} work
 * @returns {Promise<{ perContext: PerContext | null, made: number }>} no figures where the route is missing
 */
async function counted(target, work) {
  // Reading the counters costs requests too: two readings in a row show how many.
  const first = await askCosts(target);
  const before = await askCosts(target);
  const messages = await queueMessages(target);
  const { result, cpu } = await measured(target.pid, async () => {
    const figures = await work();
    if (figures.errors > 0)
      throw new Error(
        `while costs were counted ${figures.errors} answers were wrong; the first: ${figures.firstError}`,
      );
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    return figures;
  });
  const contexts = result.answered;
  const after = await askCosts(target);
  if (!first || !before || !after) return { perContext: null, made: contexts };
  /** @type {Record<string, number>} */
  const asked = {};
  for (const name of Object.keys(after.object_requests)) {
    asked[name] = before.object_requests[name] + (before.object_requests[name] - first.object_requests[name]);
  }
  return {
    made: contexts,
    perContext: {
      contexts,
      rowsWritten: each(after.rows_written, before.rows_written, contexts),
      rowsRead: after.rows_read ? sum(each(after.rows_read, before.rows_read, contexts)) : null,
      objectRequests: each(after.object_requests, asked, contexts),
      alarmsSet: after.alarms_set === undefined ? null : (after.alarms_set - before.alarms_set) / contexts,
      queueMessages: ((await queueMessages(target)) - messages) / contexts,
      cpuMs: cpu === null ? null : cpu / contexts,
    },
  };
}

/**
 * What the objects of a stopped workerd left on disk, by class.
 * @param {string} storage @returns {Record<string, Stored>}
 */
export function stored(storage) {
  /** @type {Record<string, Stored>} */
  const classes = {};
  for (const folder of readdirSync(storage, { withFileTypes: true })) {
    if (!folder.isDirectory()) continue;
    /** @type {Stored} */
    const found = { files: 0, bytes: 0, rows: {} };
    for (const file of readdirSync(`${storage}/${folder.name}`).filter((name) => name.endsWith(".sqlite"))) {
      // Not read-only: the write-ahead log must be merged.
      const database = new DatabaseSync(`${storage}/${folder.name}/${file}`);
      const tables = database
        .prepare(
          "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%'",
        )
        .all();
      found.files += tables.length > 0 ? 1 : 0;
      for (const { name } of tables) {
        const count = database.prepare(`SELECT count(*) AS n FROM "${name}"`).get();
        found.rows[String(name)] = (found.rows[String(name)] ?? 0) + Number(count?.n);
      }
      // Free pages are reused, so only pages in use count.
      const pages = database
        .prepare(
          "SELECT (page_count - freelist_count) * page_size AS bytes FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .get();
      found.bytes += tables.length > 0 ? Number(pages?.bytes) : 0;
      database.close();
    }
    if (found.files > 0) classes[folder.name] = found;
  }
  return classes;
}

/**
 * @param {"gateway" | "comparator"} side @param {string} runFolder @param {Bench} bench @returns {Promise<CostFigures>}
 */
export async function costs(side, runFolder, bench) {
  const start = side === "gateway" ? startGateway : startComparator;
  const target = await start(runFolder, bench.upstreamPort, { COUNT_COSTS: "true" });
  let solitary;
  let loaded;
  try {
    const common = {
      port: target.port,
      requests: [contextRequest("echo", "wait=10", target)],
      expect: /** @type {const} */ ("completed"),
    };
    await bench.perform({ kind: "paced", ...common, count: WARM_UP, everyMs: WARM_UP_EVERY_MS });
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    solitary = await counted(target, () =>
      bench.perform({ kind: "paced", ...common, count: SOLITARY, everyMs: SOLITARY_EVERY_MS }),
    );
    loaded = await counted(target, () =>
      bench.perform({ kind: "steady", ...common, connections: bench.options.connections, seconds: LOAD_SECONDS }),
    );
  } finally {
    await target.end();
  }
  return {
    solitary: solitary.perContext,
    loaded: loaded.perContext,
    stored: stored(`${target.folder}/storage`),
    contexts: WARM_UP + solitary.made + loaded.made,
  };
}
