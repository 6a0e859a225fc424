// @ts-check
// The simulation of the core (crates/simulation/), with more seeds than `npm test` has time for.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { say, seconds } from "./report.mjs";

/**
 * True if no seed violated an invariant. The program prints its progress, and how to replay a seed.
 * @param {import("./options.mjs").Simulated} part @param {(undo: () => void) => void} atExit
 * @returns {Promise<boolean>}
 */
export function runSeeds({ seeds }, atExit) {
  const began = Date.now();
  say(`the core, simulated over ${seeds} seeds; the first run compiles`);
  const test = [
    "test",
    "--locked",
    "--package",
    "narthex-simulation",
    "--profile",
    "simulation",
    "seeds_hold_all_invariants",
    "--",
    "--nocapture",
  ];
  const child = spawn("cargo", test, {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: { ...process.env, NARTHEX_SEEDS: String(seeds) },
    stdio: "inherit",
  });
  atExit(() => child.kill());
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      say(
        `${code === 0 ? "no seed violates anything" : "VIOLATED, or it did not run to its end"} (${seconds(Date.now() - began)})`,
      );
      resolve(code === 0);
    });
  });
}
