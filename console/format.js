// How numbers and times are written.
import { h } from "./dom.js";

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return ms < 1 ? "< 1 ms" : `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  const [many, unit, rest, small] = s < 3600 ? [s / 60, "min", s % 60, "s"] : [s / 3600, "h", (s % 3600) / 60, "min"];
  return `${Math.floor(many)} ${unit}${Math.floor(rest) ? ` ${Math.floor(rest)} ${small}` : ""}`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000], ["second", 1000]];

function away(iso) {
  const ms = Date.parse(iso) - Date.now();
  const [unit, size] = UNITS.find(([, size]) => Math.abs(ms) >= size) ?? ["second", 1000];
  return relative.format(Math.trunc(ms / size), unit);
}

/** A time as people say it, whole in its title; with a text, that stays. */
export const when = (iso, text) => h("time", { datetime: iso, title: new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "long" }), class: !text && "away" }, text ?? away(iso));

setInterval(() => document.querySelectorAll("time").forEach((time) => { if (time.className) time.textContent = away(time.dateTime); }), 5000);

/** What not more than this share of the samples passes. */
export const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** A small document in a line. */
export const brief = (value) => (value instanceof Object ? Object.entries(value).map(([name, one]) => `${name} ${JSON.stringify(one)}`).join(", ") : String(value));
