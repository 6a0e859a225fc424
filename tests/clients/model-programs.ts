// The official Python libraries of OpenAI and Anthropic, in their own process.
import { pythonWith, runPython } from "./python-process.ts";

const versions = { openai: "3.57.0", anthropic: "2.15.0" };
const packages = Object.entries(versions).map(([name, version]) => `${name}==${version}`);
const python = pythonWith(`models-${versions.openai}`, "import openai, anthropic", packages);
/** The Python with the libraries, and why they cannot be tested, if they cannot. */
export const { interpreter, skip } = python;

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
export const runPrograms = (given: Given): Promise<Saw> => runPython(python, "model_programs.py", given);
