// What the gateway has counted: true figures at any load, from `GET /v1/usage`, in whole hours.
import { get, may } from "./api.js";
import { bars, moment, number } from "./dom.js";
import { ENDED } from "./states.js";

const HOUR_MS = 3_600_000;
const STRIP_HOURS = 24;

/** Periods by name: how many whole hours before the present one. */
export const PERIODS = { recent: 1, day: 23, week: 7 * 24 - 1 };

export const readsUsage = () => may("usage:read");

/** When a period begins. */
export const begin = (period) => new Date(Math.floor(Date.now() / HOUR_MS - PERIODS[period]) * HOUR_MS).toISOString();

const sum = (groups, count) => groups.reduce((all, group) => all + count(group), 0);

export const ended = ({ completed, failed, cancelled, timed_out }) => completed + failed + cancelled + timed_out;

const NOTHING = { created: 0, completed: 0, failed: 0, cancelled: 0, timed_out: 0, errors: {}, latency_ms: {} };

/** All of a period together, and each service by its id. */
export async function figures(period) {
  const from = begin(period);
  const after = encodeURIComponent(from);
  const [all, groups] = await Promise.all(
    ["", "&group_by=service"].map((grouped) => get(`/v1/usage?after=${after}${grouped}`)),
  );
  const services = new Map(groups.data.map((group) => [group.service, group]));
  return {
    from,
    all: all.data[0] ?? NOTHING,
    of: (service) => services.get(service) ?? NOTHING,
    services: groups.data,
  };
}

/** The same of contexts that are known here, where what the gateway has counted may not be read. */
export function tally(contexts) {
  const of = (some) => {
    const sorted = some
      .map((one) => one.execution_time_ms)
      .filter((ms) => ms !== null && ms !== undefined)
      .sort((a, b) => a - b);
    const counts = Object.fromEntries(
      ENDED.map((status) => [status, some.filter((one) => one.status === status).length]),
    );
    const errors = Object.groupBy(
      some.filter(({ error }) => error),
      ({ error }) => error.code,
    );
    return {
      ...NOTHING,
      ...counts,
      created: some.length,
      latency_ms: { p50: sorted[Math.floor(sorted.length * 0.5)], p95: sorted[Math.floor(sorted.length * 0.95)] },
      errors: Object.fromEntries(Object.entries(errors).map(([code, all]) => [code, all?.length])),
    };
  };
  const groups = Object.groupBy(contexts, ({ service }) => service);
  const services = Object.entries(groups).map(([service, some]) => ({ service, ...of(some) }));
  return { all: of(contexts), of: (service) => of(groups[service] ?? []), services };
}

/** Medians of the last 24 hours, by service; empty where usage may not be read. */
export async function spreads() {
  if (!readsUsage()) return new Map();
  const { services } = await figures("day");
  return new Map(services.map(({ service, latency_ms }) => [service, latency_ms]));
}

/** How many ended in each of the last 24 hours. */
export async function byHour() {
  const { data } = await get(`/v1/usage?bucket=hour&after=${encodeURIComponent(begin("day"))}`);
  const first = Date.parse(begin("day"));
  const counts = Array.from({ length: STRIP_HOURS }, (_, at) =>
    sum(
      data.filter(({ from }) => Date.parse(from) === first + at * HOUR_MS),
      ended,
    ),
  );
  const most = Math.max(1, ...counts);
  const peak = counts.indexOf(Math.max(...counts));
  const label = `Ended by hour in the last 24 hours: at most ${number(counts[peak])}, in the hour from ${moment(first + peak * HOUR_MS)}`;
  const bar = (count, at) => ({ x: at * 4, width: 3, y: 19 - (count / most) * 19, height: 1 + (count / most) * 19 });
  return bars("rate", STRIP_HOURS * 4, label, counts.map(bar));
}
