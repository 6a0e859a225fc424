// The check of the prose fails on long lines and on words to avoid, and on nothing that cannot be changed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { check, faultsIn } from "../scripts/prose.mjs";
import { root } from "./support/configuration.ts";
import { temporaryTree } from "./support/tree.ts";

const long = "words ".repeat(30).trim();
const lines = (path: string, source: string) => faultsIn(path, source).map(({ line }) => line);

test("the_sources_keep_to_the_rules", () => assert.deepEqual(check(root), []));

test("a_long_comment_is_found_in_every_form", () => {
  for (const comment of [`// ${long}`, `/// ${long}`, `    //! ${long}`, ` * ${long}`, `let a = 1; // ${long}`])
    assert.deepEqual(lines("a.rs", `\n${comment}\n`), [2], comment);
  assert.deepEqual(lines("a.ts", `/** ${long} */\n`), [1]);
  for (const path of ["a.yaml", "a.toml", "a.py"]) assert.deepEqual(lines(path, `# ${long}\n`), [1], path);
  assert.deepEqual(faultsIn("a.mjs", `// ${"é ".repeat(60)}é`)[0]?.text, "124 columns, and at most 120 are allowed");
});

test("code_and_what_cannot_be_broken_may_be_long", () => {
  assert.deepEqual(lines("a.rs", `const A: &str = "${long}";\n// ${"x".repeat(130)}\n// \`${long}\`\n`), []);
  assert.deepEqual(lines("a.ts", `const a = "https://example.com/${long}";\n`), []);
  assert.deepEqual(lines("a.rs", `    *self.texts.borrow_mut() = "${long}";\n`), []);
});

test("long_prose_is_found_in_markdown_and_nothing_else", () => {
  assert.deepEqual(lines("a.md", `${long}\n\n- ${long}\n> ${long}\n`), [1, 3, 4]);
  const rest = [`# ${long}`, `| ${long} |`, `[a]: ${long}`, "```sh", long, "```", `- https://${"x".repeat(130)}`];
  assert.deepEqual(lines("a.md", rest.join("\n")), []);
  assert.deepEqual(lines("a.md", `\`\`\`\n${long}\n\`\`\`\n${long}\n`), [4]);
});

test("words_to_avoid_are_found_in_texts_of_every_kind", () => {
  for (const path of ["a.rs", "a.ts", "a.md", "a.yaml"])
    assert.deepEqual(faultsIn(path, "ok\nIt is told.\n"), [{ line: 2, text: 'avoid "told"' }], path);
  assert.deepEqual(faultsIn("a.rs", "// It goes\n// on.\n"), [{ line: 1, text: 'avoid "goes on"' }]);
  assert.deepEqual(lines("a.rs", 'fail("Nobody is here");\n'), [1]);
  for (const name of ["nobody_knows", "a_call_that_goes_on_is_a_handle", "ANY_MORE", "it_is_nobodys"])
    assert.deepEqual(lines("a.rs", `fn ${name}() {}\n`), [1], name);
  assert.deepEqual(faultsIn("a.rs", "const GOES_ON: u8 = 1;\n"), [{ line: 1, text: 'avoid "GOES ON"' }]);
  assert.deepEqual(lines("a.rs", "fn untold_tolds_many_more_cargoes_only() {}\n"), []);
});

test("wire_names_and_the_texts_of_other_servers_stay", () => {
  assert.deepEqual(lines("a.rs", '#[serde(rename = "told")]\n(401, "no such session any more"),\n'), []);
});

test("files_that_programs_make_are_left_out", (t) => {
  const { folder: copy, write } = temporaryTree(t);
  write(".prettierignore", "target\nbench/results\n");
  for (const path of ["target/a.md", "fuzz/target/a.md", "bench/results/a.md", ".git/a.md", "a.bin"]) write(path, long);
  assert.deepEqual(check(copy), []);
  write("docs/results/a.md", long);
  assert.deepEqual(check(copy), ["docs/results/a.md:1: 179 columns, and at most 120 are allowed"]);
});
