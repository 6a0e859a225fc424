// @ts-check
// The parts of CHANGELOG.md.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tools.mjs";

/**
 * The text of a version's part, without its heading; undefined if there is none.
 * @param {string} version such as `1.2.3`, or `Unreleased` @param {string} [changelog]
 */
export function changesOf(version, changelog = readFileSync(join(root, "CHANGELOG.md"), "utf8")) {
  const parts = changelog.split(/^## \[/m).slice(1);
  const part = parts.find((text) => text.startsWith(`${version}]`));
  // Below the last part are the definitions of links.
  return (
    part &&
    `${part
      .slice(part.indexOf("\n"))
      .replace(/^\[[^\]]+\]: .*$/gm, "")
      .trim()}\n`
  );
}
