// @ts-check
// What Git knows of the sources. Imports nothing from npm.
import { execFileSync } from "node:child_process";
import { root } from "./tools.mjs";

/** The output of a Git command; undefined where it fails or Git is absent. @param {string[]} args */
function git(...args) {
  try {
    const stdio = /** @type {import("node:child_process").StdioOptions} */ (["ignore", "pipe", "ignore"]);
    return execFileSync("git", ["--no-optional-locks", ...args], { cwd: root, encoding: "utf8", stdio }).trim();
  } catch {
    return undefined;
  }
}

/** Whether this folder is a repository, and not a folder within another one. */
const isRepository = () => git("rev-parse", "--show-prefix") === "";

/**
 * The commit that the sources are, as 40 hexadecimal digits: null without Git, and where a tracked file differs from
 * the commit.
 */
export function commitOfSources() {
  if (!isRepository() || git("status", "--porcelain", "--untracked-files=no") !== "") return null;
  return git("rev-parse", "HEAD") ?? null;
}

/** The files that differ from the last commit, new ones too; undefined without Git. */
export function changedFiles() {
  const lines = isRepository() ? git("status", "--porcelain") : undefined;
  return lines?.split("\n").flatMap((line) => (line === "" ? [] : [line.replace(/^..? /, "")]));
}

/** When the last commit was made, in seconds since 1970; undefined without Git. */
export function commitTime() {
  const time = isRepository() ? git("log", "-1", "--format=%ct") : undefined;
  return time === undefined ? undefined : Number(time);
}

/** The tags of the last commit. */
export const tags = () => git("tag", "--points-at", "HEAD")?.split("\n") ?? [];
