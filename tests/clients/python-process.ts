// Programs in Python with libraries that need not be installed.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A Python, and why it cannot be used, if it lacks what is needed. */
export type Python = { interpreter: string; skip: string | false };

/**
 * The Python in a folder of the cache, or else the default one.
 * @param check a program that fails without the packages
 * @param packages what to install
 */
export function pythonWith(name: string, check: string, packages: string[]): Python {
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex", name);
  const own = join(folder, "bin/python");
  const interpreter = existsSync(own) ? own : (process.env.PYTHON ?? "python3");
  const isUsable = spawnSync(interpreter, ["-c", check]).status === 0;
  return {
    interpreter,
    skip: !isUsable && `python3 -m venv ${folder} && ${folder}/bin/pip install ${packages.join(" ")}`,
  };
}

/** Runs a script of this folder: JSON in, JSON out. */
export function runPython<Result>({ interpreter }: Python, script: string, given: unknown): Promise<Result> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  return new Promise((resolve, reject) => {
    const child = spawn(interpreter, [path], { env: { ...process.env, PYTHONWARNINGS: "ignore" } });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text) => (output[stream] += text));
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(JSON.parse(output.stdout)) : reject(new Error(output.stderr))));
    child.stdin.end(JSON.stringify(given));
  });
}
