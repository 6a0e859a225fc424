// @ts-check
// `narthex serve` as a package of npm: what the archive of the program has, but workerd is a dependency.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assemble } from "./assemble.mjs";
import { root } from "./tools.mjs";

const RUNTIME = "@cloudflare/workerd-linux-64";

/**
 * Writes the folder.
 * @param {string} folder @param {Parameters<typeof assemble>[1]} release
 */
export async function writePackageFolder(folder, release) {
  await assemble(folder, release);
  rmSync(join(folder, "lib/workerd"));
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { license, description } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const manifest = {
    name: "narthex",
    version: release.version,
    description,
    license,
    bin: { narthex: "bin/narthex" },
    os: ["linux"],
    cpu: ["x64"],
    dependencies: { [RUNTIME]: lock.packages[`node_modules/${RUNTIME}`].version },
  };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}
