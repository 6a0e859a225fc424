// @ts-check
// `node scripts/layers.mjs`: holds the imports between rooms against the tables of docs/architecture.md, "Which module
// may import which", and the core against its promise to know no platform. Imports nothing from npm.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const DOCUMENT = "docs/architecture.md";
const HEADING = "## Which module may import which";

/** The trees of modules that have a table, by the name that stands before it. */
const TREES = /** @type {const} */ ({ "The Worker": "src", "The core": "crates/core/src" });

/** What the core must not name, nor depend on. */
const PLATFORM = ["worker", "worker_sys", "wasm_bindgen", "wasm_bindgen_futures", "js_sys", "web_sys"];

/** The word in a table for the crate of the core. */
const CORE = "core";
const CORE_CRATE = "narthex_core";

/** What a room may import, and what its tests may in addition. @typedef {{ imports: string[], tests: string[] }} Row */
/** A table: rooms from the top down. @typedef {Map<string, Row>} Table */
/** @typedef {{ file: string, line: number, text: string, rule: string }} Fault */

/**
 * The table below a name in the document's section.
 * @param {string} text @param {string} name @returns {Table}
 */
export function table(text, name) {
  const section = text.split(`\n${HEADING}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows =
    section
      .split(`\n**${name}**`)[1]
      ?.split("\n**")[0]
      ?.match(/^\| `.*$/gm) ?? [];
  if (rows.length === 0) throw new Error(`${DOCUMENT} has no table "${name}" under "${HEADING}"`);
  const names = (/** @type {string} */ cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name);
  return new Map(
    rows.map((row) => {
      const [, room = "", imports = "", tests = ""] = row.split("|");
      return [names(room)[0] ?? "", { imports: names(imports), tests: names(tests) }];
    }),
  );
}

/** What is wrong with a table itself. @param {Table} table @param {string[]} folders @returns {string[]} */
export function faultsOf(table, folders) {
  const order = [...table.keys(), CORE];
  const faults = folders.filter((room) => !table.has(room)).map((room) => `the room ${room} has no row`);
  for (const [room, { imports }] of table) {
    if (!folders.includes(room)) faults.push(`there is no room ${room}`);
    for (const other of imports)
      if (order.indexOf(other) <= order.indexOf(room)) faults.push(`${room} may not import ${other}: it is not below`);
  }
  return faults;
}

/** Source without comments and literals, every line in its place. @param {string} source */
export function bare(source) {
  const blank = (/** @type {string} */ text) => text.replace(/[^\n]/g, " ");
  return source.replace(
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'/g,
    blank,
  );
}

/**
 * The paths of a `use` tree, with their places.
 * @param {string} tree @param {number} at @returns {[string[], number][]}
 */
function branches(tree, at) {
  /** @type {[string[], number][]} */
  const found = [];
  /** @type {{ prefix: string[] }[]} */
  const open = [];
  let path = /** @type {string[]} */ ([]);
  let place = at;
  const end = () => {
    if (path.length > (open.at(-1)?.prefix.length ?? 0)) found.push([path, place]);
    path = [...(open.at(-1)?.prefix ?? [])];
  };
  for (const { 0: token, index } of tree.matchAll(/\bas\s+\w+|\w+|[{},*]/g)) {
    if (token === "{") open.push({ prefix: path });
    else if (token === "}") {
      end();
      open.pop();
      // The group is over: what comes next is a branch beside it.
      path = [...(open.at(-1)?.prefix ?? [])];
    } else if (token === ",") end();
    else if (!token.startsWith("as ")) {
      place = at + index;
      path = [...path, token];
    }
  }
  end();
  return found;
}

/** Modules that are written out in a file: their names and extents. @param {string} source */
function inline(source) {
  return [...source.matchAll(/\bmod\s+(\w+)\s*\{/g)].map(({ 0: head, 1: name = "", index }) => {
    let depth = 1;
    let end = index + head.length;
    for (; end < source.length && depth > 0; end++) {
      if (source[end] === "{") depth++;
      if (source[end] === "}") depth--;
    }
    return { name, from: index + head.length, to: end };
  });
}

/**
 * Every path that a file names from the root of its crate, or, after `::`, of another.
 * @param {string} source @param {string[]} module the file's own, from the crate's root
 * @returns {{ path: string[], at: number, isTest: boolean }[]}
 */
export function imports(source, module) {
  const text = bare(source);
  const blocks = inline(text);
  /** @type {ReturnType<typeof imports>} */
  const found = [];
  /** @param {string[]} path @param {number} at */
  const add = (path, at) => {
    const here = [...module, ...blocks.filter(({ from, to }) => at >= from && at < to).map(({ name }) => name)];
    const isTest = here.some((name) => /(^|_)tests$/.test(name));
    let [first = "", ...rest] = path;
    if (first === "crate") return found.push({ path: rest, at, isTest });
    if (first !== "self" && first !== "super") return found.push({ path: [`::${first}`, ...rest], at, isTest });
    while (first === "super" || first === "self") {
      if (first === "super") here.pop();
      [first = "", ...rest] = rest;
    }
    return found.push({ path: [...here, first, ...rest], at, isTest });
  };
  const uses = [...text.matchAll(/\buse\s+([^;]+);/g)];
  for (const { 0: use, 1: tree = "", index } of uses)
    for (const [path, at] of branches(tree, index + use.indexOf(tree))) add(path, at);
  const others = text.split("");
  for (const { 0: use, index } of uses) others.fill(" ", index, index + use.length);
  const anywhere = /(?<![\w:.])(?:::\s*)?(crate|self|super|\w+)((?:\s*::\s*\w+)+)/g;
  for (const { 1: first = "", 2: rest = "", index } of others.join("").matchAll(anywhere))
    add([first, ...(rest.match(/\w+/g) ?? [])], index);
  return found;
}

/** The module of a file, from its crate's root. @param {string} path */
function moduleOf(path) {
  const parts = path.replace(/\.rs$/, "").split(sep);
  return ["mod", "lib"].includes(parts.at(-1) ?? "") ? parts.slice(0, -1) : parts;
}

/**
 * What a file imports against the rules.
 * @param {string} file @param {string} source @param {string[]} module @param {Table} table @param {boolean} isCore
 * @returns {Fault[]}
 */
export function faultsIn(file, source, module, table, isCore) {
  const [room = ""] = module;
  const row = table.get(room);
  /** @type {Fault[]} */
  const faults = [];
  for (const { path, at, isTest } of imports(source, module)) {
    const line = source.slice(0, at).split("\n").length;
    const [first = ""] = path;
    const text = first.startsWith("::") ? path.join("::").slice(2) : ["crate", ...path].join("::");
    /** @param {string} rule */
    const fault = (rule) => faults.push({ file, line, text, rule });
    if (isCore && PLATFORM.some((name) => first === `::${name}`)) fault("the core knows no platform");
    // The crate's root names its rooms.
    if (!row) continue;
    const target = first === `::${CORE_CRATE}` ? CORE : first;
    if (target === room || (target !== CORE && !table.has(target))) continue;
    const allowed = isTest ? [...row.imports, ...row.tests] : row.imports;
    if (!allowed.includes(target)) fault(`${room} may import ${allowed.join(", ") || "no other room"}`);
  }
  return faults;
}

/** Every fault of the sources below a folder. @param {string} root @returns {string[]} */
export function check(root) {
  const document = readFileSync(join(root, DOCUMENT), "utf8");
  return Object.entries(TREES).flatMap(([name, tree]) => {
    const rooms = table(document, name);
    const folder = join(root, tree);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".rs"));
    const folders = [...new Set(files.map((path) => moduleOf(path)[0]).filter((room) => room !== undefined))];
    const wrong = files.sort().flatMap((path) => {
      const source = readFileSync(join(folder, path), "utf8");
      return faultsIn(relative(root, join(folder, path)), source, moduleOf(path), rooms, name === "The core");
    });
    return [
      ...faultsOf(rooms, folders).map((fault) => `${DOCUMENT}, ${name}: ${fault}`),
      ...wrong.map(({ file, line, text, rule }) => `${file}:${line}: ${text}: ${rule} (${DOCUMENT})`),
    ];
  });
}

/** The platform's crates among all that the core's crate depends on, also in its tests. @param {string} root */
function platformInTree(root) {
  const args = ["tree", "--locked", "-p", "narthex-core", "--edges", "normal,build,dev", "--target", "all"];
  const lines = execFileSync("cargo", [...args, "--prefix", "none"], { cwd: root, encoding: "utf8" }).split("\n");
  const names = new Set(lines.map((line) => (line.split(" ")[0] ?? "").replaceAll("-", "_")));
  if (!names.has(CORE_CRATE)) throw new Error("cargo tree does not name narthex-core");
  return PLATFORM.filter((name) => names.has(name)).map((name) => `crates/core/Cargo.toml: it depends on ${name}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = process.argv[2] ?? join(fileURLToPath(import.meta.url), "../..");
  const faults = check(root);
  if (process.argv[2] === undefined) faults.push(...platformInTree(root));
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
