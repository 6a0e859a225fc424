// The program of `narthex serve` is for any POSIX shell: it is read, and run, by those that this machine has.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { root } from "./support/configuration.ts";
import { killed, newFolder, notHere, run, serve } from "./support/serve.ts";

const has = (program: string) => spawnSync("which", [program]).status === 0;
const missing = (program: string) => (has(program) ? false : `${program} is not installed`);
const PARTS = ["output", "options", "secrets", "folder", "configuration", "process", "doctor"];
const program = join(root, "build/serve/bin/narthex");

describe("the program", { concurrency: 3, skip: notHere }, () => {
  for (const [name, shell] of [
    ["dash", ["dash"]],
    ["busybox", ["busybox", "sh"]],
    ["bash", ["bash", "--posix"]],
  ] as const) {
    test(`is_run_by_${name}`, { skip: missing(name) }, async () => {
      const by = [...shell];
      const options = { program, by, env: { PATH: process.env.PATH! } };
      const served = await serve(options);
      const since = served.said().length;
      await killed(await served.workerd());
      await served.says(/is started again in 1 s/, since);
      await served.says(/serves again/, since);
      const doctor = await run(["doctor", "--data", served.data, "--listen", `127.0.0.1:${served.port}`], options);
      assert.equal(doctor.code, 0, doctor.out + doctor.err);
      const second = await run(["serve", "--data", served.data], options);
      assert.match(second.err, new RegExp(`another process serves .*: ${served.pid}`));
      const { code, err } = await served.stop();
      assert.equal(code, 0, err);
      assert.match(err, /stopped\n$/);
      // Nothing of the shell's own.
      for (const line of err.split("\n")) assert.match(line, /^(narthex: .*|\s.*|)$/);
      const wrong = await run(["serve", "--data", newFolder(), "--listen", "x"], options);
      assert.equal(wrong.code, 2);
    });
  }

  test("has_no_fault_that_shellcheck_finds", { skip: missing("shellcheck") }, () => {
    const texts = [...PARTS.map((part) => `${part}.sh`), "narthex"].map((name) =>
      readFileSync(join(root, "serve", name)),
    );
    const { stdout } = spawnSync("shellcheck", ["-s", "sh", "-"], { input: Buffer.concat(texts), encoding: "utf8" });
    assert.equal(stdout, "");
  });

  test("is_complete_in_what_is_assembled", () => {
    const assembled = readdirSync(join(root, "build/serve/lib"));
    for (const part of PARTS) assert.ok(assembled.includes(`${part}.sh`), part);
  });
});
