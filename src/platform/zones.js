// @ts-check
// Time zones, for `zones.rs`.

/**
 * Formatters that know a zone's offset; creating one costs more than using it.
 * @type {Map<string, Intl.DateTimeFormat>}
 */
const zones = new Map();
const MAX_ZONES = 64;

/** Seconds a zone is ahead of UTC at a time; NaN for an unknown zone. @param {string} zone @param {number} time */
export function zoneOffset(zone, time) {
  let format = zones.get(zone);
  if (!format) {
    try {
      format = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" });
    } catch {
      return NaN;
    }
    if (zones.size >= MAX_ZONES) zones.clear();
    zones.set(zone, format);
  }
  const name = format.formatToParts(time).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const [, sign, hours = "0", minutes = "0", seconds = "0"] =
    /^GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(name) ?? [];
  return (sign === "-" ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds));
}
