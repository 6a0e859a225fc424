// `narthex serve`: the first start, the second, and the commands beside it.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { filesOf } from "./support/disk.ts";
import { narthex, newFolder, notHere, run, serve } from "./support/serve.ts";

const skip = notHere;
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
const chat = { model: "demo", messages: [{ role: "user", content: "Good morning" }] };
const namesOf = (path: string) => readdirSync(path).sort();

test("a_first_start_on_an_empty_folder_and_environment_serves_a_chat", { skip }, async () => {
  const served = await serve();
  assert.deepEqual(namesOf(join(served.data, "secrets")), ["ADMIN_KEY", "KEK_1"]);
  for (const name of ["ADMIN_KEY", "KEK_1"]) assert.equal(modeOf(join(served.data, "secrets", name)), "600");
  assert.equal(modeOf(served.data), "700");
  const answer = await served.request("POST", "/v1/chat/completions", { body: chat });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json.choices[0].message.role, "assistant");
  const health = await run(["health", "--data", served.data]);
  assert.deepEqual([health.code, JSON.parse(health.out).status], [0, "ok"]);
  assert.equal((await served.stop()).code, 0);
  const after = await run(["health", "--data", served.data]);
  assert.deepEqual([after.code, after.out], [1, ""]);
  assert.match(after.err, /nothing serves/);
});

test("what_it_says_first_can_be_pasted", { skip }, async () => {
  const data = join(newFolder(), 'with space, it\'s "quoted" & ü');
  const served = await serve({ data });
  const [command] = served.said().match(/^ {2}curl .*\n.*$/m)!;
  const pasted = await run(["-c", command], { program: "sh", env: { PATH: process.env.PATH! } });
  assert.equal(JSON.parse(pasted.out).object, "chat.completion", pasted.err);
  await served.stop();
});

test("a_second_start_keeps_everything_and_does_not_register_a_deleted_demonstration_again", { skip }, async () => {
  const first = await serve();
  const { adminKey } = first;
  const made = await first.request("PUT", "/v1/roles/reader", { body: { permissions: ["services:read"] } });
  assert.equal(made.status, 201, made.text);
  const { headers } = await first.request("GET", "/v1/services/demo");
  const revision = { "if-match": headers.get("etag")! };
  assert.equal((await first.request("DELETE", "/v1/services/demo", { headers: revision })).status, 204);
  await first.stop();
  const second = await serve({ data: first.data, port: first.port });
  assert.equal(second.adminKey, adminKey);
  assert.equal((await second.request("GET", "/v1/roles/reader")).status, 200);
  assert.equal((await second.request("GET", "/v1/services/demo")).status, 404);
  await second.stop();
});

test("a_folder_that_a_later_version_has_used_is_served_after_a_rollback_on_purpose", { skip }, async () => {
  const first = await serve();
  await first.stop();
  const path = join(first.data, "narthex");
  const written = readFileSync(path, "utf8");
  writeFileSync(path, written.replace(/^version .*$/m, "version 99.0.0"));
  const refused = await run(["serve", "--data", first.data]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /the later version 99\.0\.0 has used/);
  const second = await serve({ data: first.data, port: first.port, args: ["--rollback"] });
  assert.equal((await second.request("GET", "/v1/services/demo")).status, 200);
  await second.stop();
  assert.equal(readFileSync(path, "utf8"), written);
});

test("secrets_of_the_environment_and_of_files_go_before_those_of_the_folder", { skip }, async () => {
  const folder = newFolder();
  const adminKey = "an admin key of the environment";
  const kek = join(folder, "kek");
  writeFileSync(kek, `${Buffer.alloc(32, 7).toString("base64")}\n`, { mode: 0o600 });
  const served = await serve({ adminKey, env: { ADMIN_KEY: adminKey, KEK_1_FILE: "kek" }, cwd: folder });
  assert.deepEqual(namesOf(join(served.data, "secrets")), []);
  assert.equal((await served.request("GET", "/v1/whoami")).json.role, "admin");
  assert.match(served.said(), /Bearer \$ADMIN_KEY"/);
  await served.stop();
});

test("options_go_before_the_environment_and_this_before_the_file_of_variables", { skip }, async () => {
  const folder = newFolder();
  const lines = ["# of the tests", "", "DEMO=false", "HOME_REGION='as'", 'CONTEXT_SHARDS="2"', "NARTHEX_GRACE=1"];
  writeFileSync(join(folder, "variables"), lines.join("\r\n"), { mode: 0o600 });
  const served = await serve({ args: ["--config", "variables", "--grace=3"], env: { HOME_REGION: "sa" }, cwd: folder });
  assert.equal((await served.request("GET", "/v1/services/demo")).status, 404);
  assert.equal(served.log().find(({ path }) => path === "/v1/services/demo").region, "sa");
  const { err } = await served.stop();
  assert.match(err, /have 3 s to end/);
});

test("paths_may_be_relative_linked_and_long", { skip }, async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "bin"));
  symlinkSync(narthex, join(folder, "bin/linked"));
  symlinkSync("linked", join(folder, "bin/narthex"));
  for (const data of ["data", "-data", `${"long/".repeat(40)}${"l".repeat(200)}`]) {
    const served = await serve({ data, cwd: folder, program: "bin/narthex", args: [`--data=${data}`] });
    assert.equal((await served.request("GET", "/health")).status, 200);
    const health = await run(["health", `--data=${data}`], { cwd: folder });
    assert.equal(health.code, 0, health.err);
    assert.equal((await served.stop()).code, 0);
    assert.ok(statSync(join(folder, data, "narthex")).isFile());
  }
});

test("the_program_says_what_it_is_and_what_it_takes", { skip }, async () => {
  const version = await run(["--version"]);
  assert.match(version.out, /^narthex \d+\.\d+\.\d+ \(\w+\)\n$/);
  const help = await run(["--help"]);
  assert.equal(help.code, 0);
  for (const option of ["--data", "--listen", "--config", "--tls-cert", "--allow-origin", "--grace", "--rollback"]) {
    assert.ok(help.out.includes(option), option);
  }
  const nothing = await run([]);
  assert.deepEqual([nothing.code, nothing.out, nothing.err], [2, "", help.out]);
  const unknown = await run(["server"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /there is no command "server"/);
});

test("secrets_are_in_no_log_no_command_line_and_no_file_beside_them", { skip }, async () => {
  const served = await serve();
  const adminKey = served.adminKey;
  const kek = readFileSync(join(served.data, "secrets/KEK_1"), "utf8").trim();
  const asked = run(["health", "--data", served.data]);
  await served.request("GET", "/v1/whoami");
  const commands = filesOfProcesses();
  await asked;
  const { out, err } = await served.stop();
  const kept = filesOf(served.data).filter(([name]) => !name.startsWith("secrets/"));
  for (const secret of [adminKey, kek, Buffer.from(kek, "base64").toString("latin1")]) {
    for (const text of [out, err, ...commands]) assert.ok(!text.includes(secret));
    for (const [name, bytes] of kept) assert.ok(!bytes.toString("latin1").includes(secret), name);
  }
});

/** The command lines of all processes. */
function filesOfProcesses(): string[] {
  return readdirSync("/proc").flatMap((name) => {
    try {
      return /^\d+$/.test(name) ? [readFileSync(`/proc/${name}/cmdline`, "latin1")] : [];
    } catch {
      return [];
    }
  });
}
