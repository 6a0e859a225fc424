// The environment `staging` of wrangler.toml has all that the top level has: wrangler does not pass bindings, variables
// and queues on to environments.
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { unstable_readConfig as readConfig } from "wrangler";
import { root } from "./support/configuration.ts";

const path = join(root, "wrangler.toml");

/** What wrangler reads for an environment, except for what may differ: its name, its domains, values of variables. */
function read(config: string, env?: string): Record<string, unknown> {
  const found = JSON.parse(JSON.stringify(readConfig({ config, env }, { hideWarnings: true })));
  for (const name of ["name", "topLevelName", "legacy_env", "definedEnvironments", "targetEnvironment", "routes"])
    delete found[name];
  found.vars = Object.keys(found.vars).sort();
  const text = JSON.stringify(found).replaceAll('"narthex-staging-', '"narthex-');
  return JSON.parse(text);
}

/** The sections in which staging differs. */
function differences(config: string): string[] {
  const [top, staging] = [read(config), read(config, "staging")];
  return Object.keys({ ...top, ...staging }).filter((key) => JSON.stringify(top[key]) !== JSON.stringify(staging[key]));
}

test("staging_has_everything_that_the_top_level_has", () => {
  assert.deepEqual(differences(path), []);
});

test("its_queues_are_its_own", () => {
  const { queues } = readConfig({ config: path, env: "staging" }, { hideWarnings: true });
  const names = [...(queues.producers ?? []), ...(queues.consumers ?? [])].map(({ queue }) => queue);
  assert.equal(names.length, 6);
  for (const name of names) assert.match(name, /^narthex-staging-/);
});

test("a_section_that_only_the_top_level_has_is_found", (context) => {
  const text = readFileSync(path, "utf8");
  // Beside the file, as its paths are relative to it.
  const copy = join(root, `wrangler.staging-test-${process.pid}.toml`);
  context.after(() => rmSync(copy, { force: true }));
  const additions: [string, string][] = [
    ["kv_namespaces", '[[kv_namespaces]]\nbinding = "MORE"\nid = "more"\n'],
    ["services", '[[services]]\nbinding = "MORE"\nservice = "more"\n'],
    ["analytics_engine_datasets", '[[analytics_engine_datasets]]\nbinding = "USAGE"\n'],
  ];
  for (const [section, addition] of additions) {
    writeFileSync(copy, `${text}\n${addition}`);
    assert.deepEqual(differences(copy), [section]);
  }
  writeFileSync(copy, text.replace("[vars]\n", '[vars]\nMORE = "1"\n'));
  assert.deepEqual(differences(copy), ["vars"]);
  writeFileSync(copy, text.replace("bindings = [\n", 'bindings = [\n  { name = "MORE", class_name = "Registry" },\n'));
  assert.deepEqual(differences(copy), ["durable_objects"]);
});
