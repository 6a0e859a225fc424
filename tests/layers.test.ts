// The walls between the rooms hold: the check of the sources fails on an import that runs upwards.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { check, faultsIn, imports, table } from "../scripts/layers.mjs";
import { root } from "./support/configuration.ts";
import { temporaryTree } from "./support/tree.ts";

const document = readFileSync(join(root, "docs/architecture.md"), "utf8");
const worker = table(document, "The Worker");
const core = table(document, "The core");

/** What is wrong with a file `planted.rs` in a room. */
const planted = (room: string, source: string, rooms = worker) =>
  faultsIn("planted.rs", source, [room, "planted"], rooms, rooms === core);

test("the_sources_keep_to_the_tables", () => assert.deepEqual(check(root), []));

test("an_import_that_runs_upwards_fails_in_every_form", () => {
  for (const [source, path] of [
    ["use crate::execution::live::Live;\n", "execution::live::Live"],
    ["use crate::{platform::clock, execution::{live, retry as other}};\n", "execution::live"],
    ["use super::super::gateway;\n", "gateway"],
    ["fn f() { crate::execution::ask() }\n", "execution::ask"],
    ["mod inner { use super::super::super::execution::*; }\n", "execution::*"],
    ["#[cfg(test)] mod tests { use crate::execution::hint; }\n", "execution::hint"],
  ] as const) {
    const rule = "transport may import objects, platform, core";
    assert.deepEqual(
      planted("transport", `\n${source}`)[0],
      { file: "planted.rs", line: 2, text: `crate::${path}`, rule },
      source,
    );
  }
  assert.deepEqual(planted("execution", "use crate::transport::http;\nuse narthex_core::base::time;\n"), []);
});

test("comments_and_texts_import_nothing", () => {
  const source = '// crate::gateway::x\n/* crate::gateway::y */\nconst A: &str = "crate::gateway::z";\n';
  assert.deepEqual(planted("transport", source), []);
});

test("the_core_names_no_platform_and_its_tests_only_what_their_row_allows", () => {
  const rules = (source: string) => planted("http", source, core).map(({ text, rule }) => `${text}: ${rule}`);
  assert.deepEqual(rules("use worker::Date;\n"), ["worker::Date: the core knows no platform"]);
  assert.deepEqual(rules("fn f() { js_sys::eval(x); }\n"), ["js_sys::eval: the core knows no platform"]);
  assert.deepEqual(rules("use crate::mcp::tool;\n"), ["crate::mcp::tool: http may import base"]);
  assert.deepEqual(rules("#[cfg(test)]\nmod tests {\n    use crate::mcp::tool;\n}\n"), []);
});

test("the_check_names_file_line_import_and_rule_and_rooms_without_a_row", (t) => {
  const { folder: copy, write } = temporaryTree(t);
  write("docs/architecture.md", document);
  for (const room of worker.keys()) write(`src/${room}/mod.rs`, "");
  for (const room of core.keys()) write(`crates/core/src/${room}/mod.rs`, "");
  assert.deepEqual(check(copy), []);
  write("src/objects/lanes/mod.rs", "\nuse crate::auth::standing;\n");
  write("src/lobby.rs", "");
  assert.deepEqual(check(copy), [
    "docs/architecture.md, The Worker: the room lobby has no row",
    "src/objects/lanes/mod.rs:2: crate::auth::standing: objects may import platform, core (docs/architecture.md)",
  ]);
  write("docs/architecture.md", document.replace("| `platform`, `core` ", "| `auth`, `core` "));
  assert.ok(check(copy).includes("docs/architecture.md, The Worker: objects may not import auth: it is not below"));
});

test("groups_of_imports_are_read_branch_by_branch", () => {
  const paths = imports("use crate::{a::{self, b::{c, d as e}}, f};\nlet x = '\"'; crate::g::h();\n", ["room"]);
  assert.deepEqual(
    paths.map(({ path }) => path.join("::")),
    ["a::self", "a::b::c", "a::b::d", "f", "g::h"],
  );
});
