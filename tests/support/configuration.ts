// wrangler.toml for the tests: read, never repeated, so that the tested configuration is the deployed one.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "smol-toml";

/** The project's folder. */
export const root = join(import.meta.dirname, "../..");

/** The parts of wrangler.toml that the gateway uses. */
export type Configuration = {
  name: string;
  compatibility_date: string;
  compatibility_flags?: string[];
  vars?: Record<string, string>;
  assets?: { directory: string; binding?: string; run_worker_first?: boolean };
  durable_objects?: { bindings: { name: string; class_name: string }[] };
  migrations?: { tag: string; new_sqlite_classes?: string[] }[];
  queues?: {
    producers?: { binding: string; queue: string }[];
    consumers?: {
      queue: string;
      max_batch_size?: number;
      max_batch_timeout?: number;
      max_retries?: number;
      retry_delay?: number;
      dead_letter_queue?: string;
    }[];
  };
};

// Sections irrelevant to the running Worker, or handled by the tests themselves: building, cron, log collection.
const elsewhere = [
  "$schema",
  "main",
  "build",
  "rules",
  "triggers",
  "observability",
  "analytics_engine_datasets",
  "placement",
  "limits",
  "env",
  "routes",
];
const known = [
  "name",
  "compatibility_date",
  "compatibility_flags",
  "vars",
  "assets",
  "durable_objects",
  "migrations",
  "queues",
];

/** Reads wrangler.toml; throws on a section that the harness would silently ignore. */
export function readConfiguration(): Configuration {
  const configuration = parse(readFileSync(join(root, "wrangler.toml"), "utf8"));
  for (const key of Object.keys(configuration)) {
    if (!known.includes(key) && !elsewhere.includes(key)) {
      throw new Error(
        `wrangler.toml has [${key}], which tests/support/configuration.ts does not hand to miniflare yet`,
      );
    }
  }
  return configuration as unknown as Configuration;
}
