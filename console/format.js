// Formats times, numbers and small documents.

const HOUR_MS = 3_600_000;
const relativeFormat = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["day", 86_400_000],
  ["hour", HOUR_MS],
  ["minute", 60_000],
  ["second", 1000],
];

/**
 * @param {number | null | undefined} ms
 * @returns {string}
 */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return "< 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return twoUnits(seconds / 60, "min", seconds % 60, "s");
  return twoUnits(seconds / 3600, "h", (seconds % 3600) / 60, "min");
}

/**
 * @param {number} large
 * @param {string} largeUnit
 * @param {number} small
 * @param {string} smallUnit
 * @returns {string}
 */
function twoUnits(large, largeUnit, small, smallUnit) {
  const whole = `${Math.floor(large)} ${largeUnit}`;
  return small < 1 ? whole : `${whole} ${Math.floor(small)} ${smallUnit}`;
}

/**
 * The time between two moments.
 * @param {string} from
 * @param {string} to
 * @returns {string}
 */
export const durationBetween = (from, to) => duration(Date.parse(to) - Date.parse(from));

/**
 * `3 hours ago`, `in 5 minutes`.
 * @param {string} iso
 * @returns {string}
 */
export function relativeTime(iso) {
  const ms = Date.parse(iso) - Date.now();
  const [unit, size] = UNITS.find(([, unitMs]) => Math.abs(ms) >= unitMs) ?? ["second", 1000];
  return relativeFormat.format(Math.trunc(ms / size), unit);
}

/**
 * A date with its time, to the minute.
 * @param {string | number} at
 * @returns {string}
 */
export const dateAndTime = (at) => new Date(at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

/**
 * A date with its time, to the second and with its time zone.
 * @param {string} iso
 * @returns {string}
 */
export const fullTime = (iso) => new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "long" });

/**
 * @param {string | number} at
 * @returns {string}
 */
export const timeOfDay = (at) => new Date(at).toLocaleTimeString("en");

/**
 * The time of day, with the date unless it is today.
 * @param {string} iso
 * @returns {string}
 */
export function clockTime(iso) {
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const day = isToday ? {} : { month: "short", day: "numeric" };
  return at.toLocaleString("en", { ...day, hour: "numeric", minute: "2-digit" });
}

/**
 * When something was last used, which the gateway stores to the hour.
 * @param {string | null} iso
 * @returns {string}
 */
export function lastUsed(iso) {
  if (!iso) return "never used";
  const isRecent = Date.now() - Date.parse(iso) < HOUR_MS;
  return isRecent ? "used in the last hour" : `used about ${relativeTime(iso)}`;
}

/**
 * @param {number} count
 * @returns {string}
 */
export const number = (count) => count.toLocaleString("en");

/**
 * A part of a whole in percent; 100% and 0% only if exact.
 * @param {number} part
 * @param {number} whole
 * @returns {string}
 */
export function percent(part, whole) {
  if (!whole) return "–";
  if (part === 0) return "0%";
  if (part === whole) return "100%";
  const rounded = Math.round((part / whole) * 1000) / 10;
  return `${Math.min(99.9, Math.max(0.1, rounded))}%`;
}

/**
 * @param {number} bytes
 * @returns {string}
 */
export const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/**
 * A name of the API in plain words: `half_open` as `half open`.
 * @param {string} name
 * @returns {string}
 */
export const words = (name) => name.replaceAll("_", " ");

/**
 * A small document in one line.
 * @param {unknown} value
 * @returns {string}
 */
export function oneLine(value) {
  if (!(value instanceof Object)) return String(value);
  const members = Object.entries(value).map(([name, member]) => `${name} ${JSON.stringify(member)}`);
  return members.join(", ");
}
