// The gateway's own figures (`GET /v1/usage`): exact at any load, in whole hours.
import { get } from "./api.js";
import { barChart } from "./dom.js";
import { dateAndTime, number } from "./format.js";
import { may } from "./session.js";
import { ENDED_STATUSES } from "./statuses.js";

const HOUR_MS = 3_600_000;
const CHART_HOURS = 24;

/** Periods by name: how many whole hours before the current one. */
const PERIODS = { recent: 1, day: 23, week: 7 * 24 - 1 };

/** @typedef {keyof typeof PERIODS} Period */

/** @type {UsageGroup} */
const NOTHING = { created: 0, completed: 0, failed: 0, cancelled: 0, timed_out: 0, errors: {}, latency_ms: {} };

/** @returns {boolean} */
export const mayReadUsage = () => may("usage:read");

/**
 * The start of a period.
 * @param {Period} period
 * @returns {string}
 */
export function beginningOf(period) {
  const hour = Math.floor(Date.now() / HOUR_MS - PERIODS[period]);
  return new Date(hour * HOUR_MS).toISOString();
}

/**
 * How many contexts of a group have ended.
 * @param {UsageGroup} group
 * @returns {number}
 */
export const endedCount = ({ completed, failed, cancelled, timed_out }) => completed + failed + cancelled + timed_out;

/**
 * The figures of one service.
 * @param {Figures} figures
 * @param {string} id
 * @returns {UsageGroup}
 */
export const ofService = ({ services }, id) => services.find(({ service }) => service === id) ?? NOTHING;

/**
 * Reads what the gateway has counted in a period.
 * @param {Period} period
 * @returns {Promise<Figures & { from: string }>}
 */
export async function readFigures(period) {
  const from = beginningOf(period);
  const path = `/v1/usage?after=${encodeURIComponent(from)}`;
  const [whole, ...grouped] = await Promise.all(
    ["", "&group_by=service", "&group_by=model"].map((by) => get(path + by)),
  );
  const [services, models] = grouped.map(({ data }) => data);
  return { from, total: whole.data[0] ?? NOTHING, services, models };
}

/**
 * The same figures, counted from known contexts, for keys that may not read usage.
 * @param {Context[]} contexts that have ended
 * @returns {Figures}
 */
export function countContexts(contexts) {
  const byService = Object.entries(Object.groupBy(contexts, ({ service }) => service));
  const services = byService.map(([service, some = []]) => ({ service, ...countGroup(some) }));
  return { total: countGroup(contexts), services };
}

/**
 * @param {Context[]} contexts
 * @returns {UsageGroup}
 */
function countGroup(contexts) {
  const counts = ENDED_STATUSES.map((ended) => [ended, contexts.filter(({ status }) => status === ended).length]);
  const times = contexts.map(({ execution_time_ms }) => execution_time_ms).filter((ms) => typeof ms === "number");
  const sorted = times.sort((a, b) => a - b);
  const percentile = (/** @type {number} */ part) => sorted[Math.floor(sorted.length * part)];
  /** @type {{ [code: string]: number }} */
  const errors = {};
  for (const { error } of contexts) {
    if (error) errors[error.code] = (errors[error.code] ?? 0) + 1;
  }
  return {
    ...NOTHING,
    ...Object.fromEntries(counts),
    created: contexts.length,
    latency_ms: { p50: percentile(0.5), p95: percentile(0.95) },
    errors,
  };
}

/**
 * Latencies over the last 24 hours by service; empty for keys that may not read usage.
 * @returns {Promise<Map<string | undefined, Latency>>}
 */
export async function readLatencies() {
  if (!mayReadUsage()) return new Map();
  const { services } = await readFigures("day");
  return new Map(services.map(({ service, latency_ms }) => [service, latency_ms]));
}

/**
 * A chart of how many contexts ended in each of the last 24 hours.
 * @returns {Promise<SVGElement>}
 */
export async function readHourlyChart() {
  const from = beginningOf("day");
  /** @type {{ data: UsageGroup[] }} */
  const { data } = await get(`/v1/usage?bucket=hour&after=${encodeURIComponent(from)}`);
  const counts = Array.from({ length: CHART_HOURS }, () => 0);
  for (const group of data) {
    const hour = (Date.parse(group.from ?? "") - Date.parse(from)) / HOUR_MS;
    if (hour in counts) counts[hour] = (counts[hour] ?? 0) + endedCount(group);
  }
  const highest = Math.max(...counts);
  const peakAt = Date.parse(from) + counts.indexOf(highest) * HOUR_MS;
  const label = `Ended per hour, last 24 hours: at most ${number(highest)}, in the hour from ${dateAndTime(peakAt)}`;
  const bars = counts.map((count, hour) => {
    const height = (count / Math.max(1, highest)) * 19;
    return { x: hour * 4, width: 3, y: 19 - height, height: 1 + height };
  });
  return barChart("rate", CHART_HOURS * 4, label, bars);
}
