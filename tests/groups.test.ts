// The groups of tests, which continuous integration runs side by side: no file is left out, none runs twice.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  ALONE,
  CONFORMANCE,
  groupOf,
  groups,
  isLast,
  LONG,
  NOT_SERVED,
  select,
  testFiles,
} from "../scripts/groups.mjs";
import { root } from "./support/configuration.ts";

const all = testFiles();
const of = (word: string) => {
  const { files, alone, last } = select([word]);
  return [...files, ...alone, ...last];
};

test("every_test_file_belongs_to_exactly_one_group", () => {
  const selected = Object.keys(groups).flatMap(of).sort();
  assert.deepEqual(selected, all);
  for (const path of all) assert.ok(of(groupOf(path)).includes(path), path);
});

test("without_words_everything_runs_and_coverage_runs_last", () => {
  const { packages, files, alone, last } = select([]);
  assert.deepEqual([...files, ...alone, ...last].sort(), all);
  assert.ok(last.length > 0 && last.every(isLast));
  assert.deepEqual(packages, select(["rust"]).packages);
});

test("the_groups_together_run_the_native_tests_of_every_crate_once", () => {
  const members = [".", ...readdirSync(join(root, "crates")).map((name) => join("crates", name))].flatMap((folder) => {
    const manifest = readFileSync(join(root, folder, "Cargo.toml"), "utf8");
    return /^test = false$/m.test(manifest) ? [] : manifest.match(/^name = "([^"]+)"/m)!.slice(1);
  });
  assert.deepEqual(
    Object.keys(groups)
      .flatMap((group) => select([group]).packages)
      .sort(),
    members.sort(),
  );
  const { files, alone } = select(["rust"]);
  assert.deepEqual([...files, ...alone], []);
});

test("each_name_in_a_list_is_that_of_an_existing_file", () => {
  for (const name of [...CONFORMANCE, ...Object.keys(ALONE), ...LONG, ...Object.keys(NOT_SERVED)])
    assert.ok(
      all.some((path) => path.startsWith(join("tests", name))),
      name,
    );
});

test("the_name_of_a_group_is_part_of_no_path", () => {
  for (const group of Object.keys(groups))
    assert.deepEqual(
      all.filter((path) => path.includes(group)),
      [],
      group,
    );
});

test("continuous_integration_runs_every_group", () => {
  const workflow = readFileSync(join(root, ".github/workflows/ci.yml"), "utf8");
  for (const group of Object.keys(groups)) assert.ok(workflow.includes(`npm test -- ${group}\n`), group);
});
