// `npm run release` on the existing build: its files, that they are the same each time, and that they are usable.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Spec, Validation } from "@cyclonedx/cyclonedx-library";
import { parse } from "smol-toml";
import { changesOf } from "../scripts/changes.mjs";
import { finishedConfiguration } from "../scripts/worker-folder.mjs";
import { root } from "./support/configuration.ts";
import { notHere, serve } from "./support/serve.ts";

const skip = notHere;
const folder = mkdtempSync(join(tmpdir(), "narthex-release-"));
const [one, other] = [join(folder, "one"), join(folder, "other")];
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const { commit } = await import(join(root, "build/version.mjs"));
const names = {
  program: `narthex-${version}-linux-x64`,
  worker: `narthex-worker-${version}`,
  materials: `narthex-${version}.cdx.json`,
};

type Outcome = { code: number | null; stdout: string; stderr: string };

async function run(program: string, args: string[], cwd = root, more = {}): Promise<Outcome> {
  const env = { ...process.env, NARTHEX_BUILD: "none", ...more };
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const outcome: Outcome = { code: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (outcome.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (outcome.stderr += text));
  [outcome.code] = await once(child, "close");
  return outcome;
}

const release = (...args: string[]) => run(process.execPath, ["scripts/release.mjs", ...args]);

const sums = (out: string) => readFileSync(join(out, "SHA256SUMS"), "utf8");
const unpacked = (name: string) => join(folder, "unpacked", name);
const isExecutable = (path: string) => (statSync(path).mode & 0o111) === 0o111;

let first: Outcome;

before(async () => {
  if (skip) return;
  const outcomes = await Promise.all([one, other].map((out) => release("--dry-run", "--out", out)));
  for (const { code, stderr } of outcomes) assert.equal(code, 0, stderr);
  first = outcomes[0]!;
  mkdirSync(join(folder, "unpacked"));
  for (const name of [names.program, names.worker])
    execFileSync("tar", ["xzf", join(one, `${name}.tar.gz`), "-C", join(folder, "unpacked")]);
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("a_release_is_the_same_in_every_folder", { skip }, () => {
  assert.equal(sums(one), sums(other));
  assert.equal(sums(one).split("\n").length, 6);
});

test("its_files_have_the_digests_of_the_list", { skip }, () => {
  execFileSync("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: one });
  const listed = sums(one).match(/\S+$/gm)!;
  assert.deepEqual(readdirSync(one).sort(), ["SHA256SUMS", ...listed].sort());
});

test("its_output_has_the_steps_and_each_file_with_its_size", { skip }, () => {
  assert.equal(first.stdout, "", "progress belongs on standard error");
  for (const name of [names.program, names.worker]) assert.match(first.stderr, new RegExp(`making ${name}`));
  for (const name of readdirSync(one).filter((name) => name !== "SHA256SUMS"))
    assert.match(first.stderr, new RegExp(`^narthex: ${name} +[\\d.]+ [KM]iB  [0-9a-f]{64}$`, "m"));
});

test("the_package_of_npm_serves_with_workerd_as_its_dependency", { skip }, async () => {
  const modules = join(folder, "npm/node_modules");
  mkdirSync(join(modules, "@cloudflare"), { recursive: true });
  execFileSync("tar", ["xzf", join(one, `narthex-${version}.tgz`), "-C", modules]);
  renameSync(join(modules, "package"), join(modules, "narthex"));
  const { dependencies, bin } = JSON.parse(readFileSync(join(modules, "narthex/package.json"), "utf8"));
  const [[runtime, exact]] = Object.entries<string>(dependencies) as [[string, string]];
  symlinkSync(join(root, "node_modules", runtime), join(modules, runtime));
  assert.equal(JSON.parse(readFileSync(join(modules, runtime, "package.json"), "utf8")).version, exact);
  assert.ok(!existsSync(join(modules, "narthex/lib/workerd")));
  const served = await serve({ program: join(modules, "narthex", bin.narthex) });
  assert.equal((await served.request("GET", "/health")).json.version, version);
  await served.stop();
});

test("each_archive_has_one_top_folder_and_nothing_of_this_machine", { skip }, () => {
  for (const name of [names.program, names.worker]) {
    const lines = execFileSync("tar", ["tvzf", join(one, `${name}.tar.gz`)], { encoding: "utf8" })
      .trim()
      .split("\n");
    const paths = lines.map((line) => line.split(/ +/).slice(5).join(" "));
    assert.ok(paths.every((path) => path === `${name}/` || path.startsWith(`${name}/`)));
    assert.deepEqual(paths, [...paths].sort(), "sorted");
    for (const line of lines) assert.match(line, /^[d-]rw[x-]r-[x-]r-[x-] root\/root /);
    assert.equal(new Set(lines.map((line) => line.match(/\d{4}-\d\d-\d\d \d\d:\d\d/)![0])).size, 1, "one time");
    for (const file of ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md"])
      assert.ok(paths.includes(`${name}/${file}`), file);
  }
});

test("the_program_is_executable_and_its_runtime_is_the_pinned_one", { skip }, () => {
  const [program, runtime] = [
    join(unpacked(names.program), "bin/narthex"),
    join(unpacked(names.program), "lib/workerd"),
  ];
  assert.ok(isExecutable(program) && isExecutable(runtime));
  const printed = execFileSync(program, ["--version"], { encoding: "utf8" });
  assert.equal(printed, `narthex ${version} (${commit ?? "unknown"})\n`);
  const { workerd } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).devDependencies;
  const [, year, month, day] = /^1\.(\d{4})(\d\d)(\d\d)\./.exec(workerd)!;
  assert.equal(execFileSync(runtime, ["--version"], { encoding: "utf8" }).trim(), `workerd ${year}-${month}-${day}`);
});

/** What an archive serves as a file of the console. */
function served(name: string, file: string): string {
  const plain = join(unpacked(name), "console", file);
  if (existsSync(plain)) return readFileSync(plain, "utf8");
  const lib = join(unpacked(name), "lib");
  const { from, to } = JSON.parse(readFileSync(join(lib, "console.json"), "utf8"))[`/${file}`];
  return gunzipSync(readFileSync(join(lib, "console.bin")).subarray(from, to)).toString();
}

test("the_contracts_in_an_archive_name_the_commit", { skip }, () => {
  for (const name of [names.program, names.worker]) {
    for (const file of ["openapi.json", "asyncapi.json"]) {
      const { info } = JSON.parse(served(name, file));
      assert.deepEqual([info.version, info["x-commit"] ?? null], [version, commit], `${name}: ${file}`);
    }
    assert.equal(served(name, "main.js"), readFileSync(join(root, "console/main.js"), "utf8"));
  }
});

test("the_finished_worker_deploys_without_rust", { skip }, async () => {
  const wrangler = join(root, "node_modules/wrangler/bin/wrangler.js");
  const node = join(root, "node_modules/.bin");
  const outcomes = await Promise.all(
    ["", "staging"].map((environment) =>
      run(
        join(node, "node"),
        [wrangler, "deploy", "--dry-run", `--env=${environment}`, "--outdir", join(folder, `deployed${environment}`)],
        unpacked(names.worker),
        { PATH: `${node}:/usr/bin:/bin`, WRANGLER_SEND_METRICS: "false", CARGO: "", RUSTC: "" },
      ),
    ),
  );
  for (const { code, stdout, stderr } of outcomes) {
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stdout + stderr, /custom build|WARNING/i);
  }
  assert.match(outcomes[0]!.stdout, /WORK \(narthex-work\)/);
  assert.match(outcomes[1]!.stdout, /WORK \(narthex-staging-work\)/);
  for (const file of ["worker.mjs", "index_bg.wasm"]) {
    const built = readFileSync(join(root, "build", file));
    assert.ok(built.equals(readFileSync(join(folder, "deployed", file))), file);
  }
  assert.ok(!existsSync(join(folder, "deployed/console")), "the console's files are assets, not modules");
});

test("a_wrangler_toml_in_another_form_is_noticed", { skip }, () => {
  const text = readFileSync(join(root, "wrangler.toml"), "utf8");
  assert.throws(() => finishedConfiguration(text.replace('main = "entry.mjs"', 'main = "other.mjs"')), /another form/);
  assert.throws(() => finishedConfiguration(text.replace("[build]\n", "[build] # how\n")), /another form/);
});

test("the_bill_of_materials_is_valid_and_names_what_is_inside", { skip }, async () => {
  const text = readFileSync(join(one, names.materials), "utf8");
  assert.equal(await new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(text), null);
  const { components, metadata } = JSON.parse(text);
  const named = new Map<string, any>(components.map((component: { name: string }) => [component.name, component]));
  for (const name of ["worker", "serde_json", "wasm-bindgen", "boon", "narthex-core", "std", "workerd"])
    assert.ok(named.has(name), name);
  // Of tests, of the compiler, of the build.
  for (const name of ["proptest", "schemars", "syn", "serde_derive", "esbuild", "wrangler"])
    assert.ok(!named.has(name), name);
  const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  const [, locked, checksum] = /name = "serde_json"\nversion = "(.+)"\nsource = .*\nchecksum = "(.+)"/.exec(lock)!;
  const json = named.get("serde_json");
  assert.deepEqual([json.version, json.purl], [locked, `pkg:cargo/serde_json@${locked}`]);
  assert.deepEqual(json.hashes, [{ alg: "SHA-256", content: checksum }]);
  for (const component of components) assert.ok(component.licenses.length > 0 && component.version, component.name);
  assert.deepEqual([metadata.component.name, metadata.component.version], ["narthex", version]);
});

test("the_changes_are_those_of_the_version_or_the_unreleased_ones", { skip }, () => {
  const changelog =
    "# Changelog\n\n## [Unreleased]\n\n- c\n\n## [1.0.0] - 2026-01-02\n\n- b\n\n## [0.9.0]\n\n- a\n\n[x]: y\n";
  assert.equal(changesOf("Unreleased", changelog), "- c\n");
  assert.equal(changesOf("1.0.0", changelog), "- b\n");
  assert.equal(changesOf("0.9.0", changelog), "- a\n");
  assert.equal(changesOf("0.1.0", changelog), undefined);
  assert.equal(readFileSync(join(one, "CHANGES.md"), "utf8"), changesOf(version) ?? changesOf("Unreleased"));
});

test("wrong_arguments_are_all_named_and_nothing_is_made", { skip }, async () => {
  const { code, stderr } = await release("--dry", "--out=", "now", "--dry-run=yes");
  assert.equal(code, 1);
  for (const wrong of ["--dry is not", "--out takes a folder", "now is not", "--dry-run takes no value"])
    assert.ok(stderr.includes(wrong), stderr);
  const { code: good, stdout } = await release("--help");
  assert.equal(good, 0);
  for (const option of ["--dry-run", "--out DIR", "--help"]) assert.ok(stdout.includes(option));
});

test("only_a_tagged_commit_is_released", { skip }, async () => {
  const { code, stderr } = await release("--out", join(folder, "refused"));
  assert.equal(code, 1);
  assert.match(stderr, /NARTHEX_BUILD is set, and a release needs the full build/);
  assert.ok(!existsSync(join(folder, "refused")));
});

test("a_folder_with_other_files_is_left_alone", { skip }, async () => {
  const occupied = join(folder, "occupied");
  mkdirSync(occupied);
  writeFileSync(join(occupied, "thesis.txt"), "");
  const { code, stderr } = await release("--dry-run", "--out", occupied);
  assert.equal(code, 1);
  assert.match(stderr, /files that are not of a release: thesis\.txt/);
  assert.deepEqual(readdirSync(occupied), ["thesis.txt"]);
});

test("the_image_is_built_by_the_same_compiler_from_every_tracked_file", { skip }, () => {
  const image = readFileSync(join(root, "Dockerfile"), "utf8");
  const { toolchain } = parse(readFileSync(join(root, "rust-toolchain.toml"), "utf8")) as any;
  assert.ok(image.includes(`rust:${toolchain.channel}-bookworm`), toolchain.channel);
  // Without a tracked file, the sources in the builder would differ from their commit.
  const args = ["ls-files", "--cached", "--ignored", "--exclude-from=.dockerignore"];
  if (existsSync(join(root, ".git"))) assert.equal(execFileSync("git", args, { cwd: root, encoding: "utf8" }), "");
});
