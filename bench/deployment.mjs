// @ts-check
// The deployment, read from wrangler.toml, so that the benchmark runs the configuration of production.
import { readFileSync } from "node:fs";

const source = new URL("../wrangler.toml", import.meta.url);

/**
 * @typedef {{ compatibilityDate: string, compatibilityFlags: string[], vars: Record<string, string>,
 *   objects: { name: string, class_name: string }[], queues: { binding: string, queue: string }[],
 *   consumers: { queue: string, max_batch_size?: number, max_retries?: number }[], assets: string | undefined }}
 *   Deployment
 */

/** A line without its comment; a `#` inside quotes does not start one. @param {string} line */
function uncommented(line) {
  let quoted = false;
  for (let index = 0; index < line.length; index += 1) {
    if (line[index] === '"' && line[index - 1] !== "\\") quoted = !quoted;
    if (line[index] === "#" && !quoted) return line.slice(0, index).trim();
  }
  return line.trim();
}

/** A TOML value of the kinds wrangler.toml uses: all but inline tables are JSON already. @param {string} text */
function value(text) {
  const json = text.replace(/([{,]\s*)([A-Za-z_]+)\s*=/g, '$1"$2":').replace(/,(\s*[\]}])/g, "$1");
  return JSON.parse(text.startsWith('"') ? text : json);
}

/** @param {string} text @returns {Record<string, any>} the tables by their dotted names, those in `[[…]]` as lists */
export function parse(text) {
  /** @type {Record<string, any>} */
  const tables = { "": {} };
  let table = tables[""];
  const lines = text.split("\n").map(uncommented);
  for (let index = 0; index < lines.length; index += 1) {
    let line = lines[index] ?? "";
    const heading = line.match(/^(\[\[?)([\w.-]+)\]\]?$/);
    if (heading?.[2]) {
      table = {};
      if (heading[1] === "[[") (tables[heading[2]] ??= []).push(table);
      else tables[heading[2]] = table;
      continue;
    }
    const entry = line.match(/^([\w-]+)\s*=\s*(.*)$/);
    if (!entry?.[1]) continue;
    let written = entry[2] ?? "";
    while (written.startsWith("[") && !written.endsWith("]")) written += lines[(index += 1)] ?? "]";
    try {
      table[entry[1]] = value(written);
    } catch {
      throw new Error(`wrangler.toml: the benchmark cannot read ${entry[1]} = ${written}`);
    }
  }
  return tables;
}

/** @returns {Deployment} */
export function deployment() {
  const tables = parse(readFileSync(source, "utf8"));
  return {
    compatibilityDate: tables[""].compatibility_date,
    compatibilityFlags: tables[""].compatibility_flags ?? [],
    vars: tables.vars ?? {},
    objects: tables.durable_objects?.bindings ?? [],
    queues: tables["queues.producers"] ?? [],
    consumers: tables["queues.consumers"] ?? [],
    assets: tables.assets?.binding,
  };
}
