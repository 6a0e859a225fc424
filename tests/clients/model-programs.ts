// The official Python libraries of OpenAI and Anthropic, in their own process.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const versions = { openai: "3.57.0", anthropic: "2.15.0" };
const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex", `models-${versions.openai}`);
const own = join(folder, "bin/python");
/** The Python with the libraries, or else the default one. */
export const interpreter = existsSync(own) ? own : (process.env.PYTHON ?? "python3");
const hasLibraries = spawnSync(interpreter, ["-c", "import openai, anthropic"]).status === 0;
const packages = Object.entries(versions).map(([name, version]) => `${name}==${version}`);
/** Why the libraries cannot be tested, if they cannot. */
export const skip = !hasLibraries && `python3 -m venv ${folder} && ${folder}/bin/pip install ${packages.join(" ")}`;
const script = fileURLToPath(new URL("model_programs.py", import.meta.url));

/** Where the programs go, with which kind of clients, and which of them. */
export type Given = {
  url: string;
  keys: { openai: string; anthropic: string };
  asynchronous: boolean;
  /** Those that a provider can answer, or those that only the gateway can. */
  set: "provider" | "gateway";
};

/** What each program saw, by its name. */
export type Saw = Record<string, { saw: any } | { failed: string }>;

/** Runs all programs of a set in one process, because starting it takes longest. */
export function runPrograms(given: Given): Promise<Saw> {
  return new Promise((resolve, reject) => {
    const child = spawn(interpreter, [script], { env: { ...process.env, PYTHONWARNINGS: "ignore" } });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text) => (output[stream] += text));
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(JSON.parse(output.stdout)) : reject(new Error(output.stderr))));
    child.stdin.end(JSON.stringify(given));
  });
}
