// @ts-check
// `node scripts/prose.mjs`: holds comments and Markdown prose, which no formatter wraps, to the columns of
// .editorconfig, and all texts to plain words. Imports nothing from npm.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const COLUMNS = 120;

/** What is checked: all that people write here. */
const CHECKED = /\.(rs|mjs|js|ts|py|md|ya?ml|toml|html|css)$/;

/** These obscure who does what, and when: name the subject and the moment. */
const AVOIDED = ["told", "whoever", "nobodys?", "goes on", "any more", "meanwhile"];

/** Where such words stay. @type {{ texts?: RegExp, files?: string[], reason: string }[]} */
const ALLOWED = [
  { texts: /\brename = "\w+"/g, reason: "wire names: the versions of a deployment read each other's messages" },
  { texts: /"no such session [^"]+"/g, reason: "error texts of other servers, which the gateway recognizes" },
  { files: ["scripts/prose.mjs", "tests/prose.test.ts"], reason: "they are about these words" },
];

/** A space, an underscore, or the end of a line with the mark of a comment on the next. */
const GAP = String.raw`(?:_|\s+(?:(?:\/\/[/!]?|[*#>])\s+)?)`;
/** The words of a text, and those within a name such as `a_call_goes_on`. */
const WORDS = new RegExp(
  `(?<![a-z])(?:${AVOIDED.map((words) => words.replaceAll(" ", GAP)).join("|")})(?![a-z])`,
  "gi",
);

/** @typedef {{ line: number, text: string }} Fault */

/** The words that a file should not have. @param {string} path @param {string} source @returns {Fault[]} */
function words(path, source) {
  if (ALLOWED.some(({ files }) => files?.includes(path))) return [];
  const blank = (/** @type {string} */ text) => " ".repeat(text.length);
  const rest = ALLOWED.reduce((text, { texts }) => (texts === undefined ? text : text.replace(texts, blank)), source);
  return [...rest.matchAll(WORDS)].map(({ 0: found, index }) => ({
    line: rest.slice(0, index).split("\n").length,
    text: `avoid "${found.split(/[\W_]+/).join(" ")}"`,
  }));
}

/** Whether a line has a place to break it: a space after its mark, outside of code spans. @param {string} line */
const isBreakable = (line) =>
  /\S\s+\S/.test(line.replace(/^\s*(?:(?:[-*>]|\d+\.|\/\/[/!]?)\s+)*/, "").replace(/`[^`]*`/g, "`"));

/** Whether a line of code is a comment, or ends with one. @param {string} line */
const isComment = (line) => /^\s*(\/\/|\/\*|\*\s)/.test(line) || /[\s;,{}()[\]]\/\/ /.test(line.trim());

/** Whether a line is a comment where `#` begins one. @param {string} line */
const isHashComment = (line) => /^\s*#/.test(line);

/** Which lines of Markdown are prose: not code, tables, headings, HTML or link definitions. @param {string[]} lines */
function prose(lines) {
  let fence = "";
  return lines.map((line) => {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1] ?? "";
    const isCode = fence !== "" || mark !== "";
    if (fence === "") fence = mark;
    else if (mark.startsWith(fence)) fence = "";
    return !isCode && !/^\s*(\||#|<|\[[^\]]+\]:)/.test(line);
  });
}

/** The lines of text that are too long. @param {string} path @param {string} source @returns {Fault[]} */
function columns(path, source) {
  const lines = source.split("\n");
  const isText = path.endsWith(".md")
    ? prose(lines)
    : lines.map(/\.(py|toml|ya?ml)$/.test(path) ? isHashComment : isComment);
  return lines.flatMap((line, index) => {
    const count = [...line].length;
    if (!isText[index] || count <= COLUMNS || !isBreakable(line)) return [];
    return [{ line: index + 1, text: `${count} columns, and at most ${COLUMNS} are allowed` }];
  });
}

/** What is wrong in a file. @param {string} path @param {string} source @returns {Fault[]} */
export const faultsIn = (path, source) => [...columns(path, source), ...words(path, source)];

/** The files that are checked. Those that programs make are in .prettierignore. @param {string} root */
function files(root) {
  const ignored = readFileSync(join(root, ".prettierignore"), "utf8").split("\n");
  /** @param {string} folder @returns {string[]} */
  const below = (folder) =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.name.startsWith(".") || ignored.includes(entry.name) || ignored.includes(path)) return [];
      if (entry.isDirectory()) return below(path);
      return CHECKED.test(entry.name) ? [path] : [];
    });
  return below("").sort();
}

/** Every fault below a folder. @param {string} root @returns {string[]} */
export const check = (root) =>
  files(root).flatMap((path) =>
    faultsIn(path, readFileSync(join(root, path), "utf8")).map(({ line, text }) => `${path}:${line}: ${text}`),
  );

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const faults = check(join(fileURLToPath(import.meta.url), "../.."));
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
