// `narthex serve` refuses what it cannot serve with: it names every fault, and starts nothing.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { freePort } from "../scripts/ports.mjs";
import { pairOf } from "./support/certificates.ts";
import { newFolder, notHere, type ProgramOptions, run } from "./support/serve.ts";

/** Runs it with these arguments; returns the faults that it names. */
async function faults(args: string[], options: ProgramOptions = {}, code = 2): Promise<string[]> {
  const ran = await run(["serve", ...args], options);
  assert.equal(ran.code, code, ran.err);
  assert.equal(ran.out, "");
  const [first, ...rest] = ran.err.trimEnd().split("\n");
  assert.equal(first, "narthex: cannot start:", ran.err);
  return rest.map((line) => line.replace(/^ {2}- /, ""));
}

/** Asserts that these faults are named, and no others. */
function named(found: string[], patterns: RegExp[]): void {
  for (const [at, pattern] of patterns.entries()) assert.match(found[at] ?? "(no further fault)", pattern);
  assert.equal(found.length, patterns.length, found.join("\n"));
}

/** A file in a new folder. */
function fileOf(text: string, mode = 0o600): string {
  const path = join(newFolder(), "file");
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

describe("options", { concurrency: 4, skip: notHere }, () => {
  test("every_fault_is_named_in_one_run", async () => {
    const args = ["--dta", "--data=", "--listen", "8787", "--grace", "soon", "--tls-cert", "/none/cert.pem"];
    named(await faults([...args, "--allow-origin", "ollama:11434", "--ca"]), [
      /no option "--dta"/,
      /--ca needs a value/,
      /--data is missing/,
      /--grace must be a number of seconds from 0 to 9999, not "soon"/,
      /--listen must be an address with a port.* not "8787"/,
      /--tls-cert needs --tls-key/,
      /the file of --tls-cert cannot be read: \/none\/cert.pem/,
      /--allow-origin takes origins such as .* not "ollama:11434"/,
    ]);
  });

  test("a_value_is_never_another_option", async () => {
    named(await faults(["--data", "--listen", "127.0.0.1:1"]), [/--data needs a value/, /--data is missing/]);
    named(await faults(["--data", join(newFolder(), "x"), "--grace"]), [/--grace needs a value/]);
    named(await faults(["serve", "--data", join(newFolder(), "x")]), [/no option "serve"/]);
  });

  for (const listen of ["127.0.0.1", ":8787", "[::1]", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "::1:8787", "x:1x"]) {
    test(`${listen}_is_not_where_to_listen`, async () => {
      named(await faults(["--data", newFolder(), "--listen", listen]), [/--listen must be an address/]);
    });
  }

  for (const origin of [
    "http://",
    "ftp://x",
    "http://x/path",
    "http://x?q",
    "http://u@x",
    "http://a b",
    "http://x:y",
    "*",
  ]) {
    test(`${origin}_is_not_an_origin`, async () => {
      named(await faults(["--data", newFolder(), "--allow-origin", origin]), [/--allow-origin takes origins/]);
    });
  }
});

describe("the file of variables", { concurrency: 4, skip: notHere }, () => {
  test("unknown_names_are_named_with_their_lines", async () => {
    const config = fileOf("DEMO=true\n\n# what follows is wrong\nDEMOS=true\nDEMO\n  demo=true\nPATH=/x\nA B=1\n");
    named(await faults(["--data", newFolder(), "--config", config]), [
      /line 4: there is no variable "DEMOS"/,
      /line 5: a line is NAME=value, not "DEMO"/,
      /line 6: there is no variable "demo"/,
      /line 7: there is no variable "PATH"/,
      /line 8: there is no variable "A B"/,
    ]);
  });

  test("nothing_in_it_is_run", async () => {
    const trace = join(newFolder(), "trace");
    const config = fileOf(
      `CORS_ORIGINS=$(touch ${trace})\`touch ${trace}\`;touch ${trace}\nHOME_REGION="eu"\n$(touch ${trace})=1\n`,
    );
    const { code } = await run(["serve", "--data", join(newFolder(), "x"), "--config", config]);
    assert.equal(code, 2);
    assert.deepEqual(readdirSync(join(trace, "..")), []);
  });

  test("it_must_be_a_file_that_others_cannot_read", async () => {
    named(await faults(["--data", newFolder(), "--config", fileOf("", 0o644)]), [/others can read .*: chmod 600/]);
    named(await faults(["--data", newFolder(), "--config", newFolder()]), [/the file of --config cannot be read/]);
  });
});

describe("secrets", { concurrency: 4, skip: notHere }, () => {
  const kek = Buffer.alloc(32, 9).toString("base64");

  test("a_variable_and_its_file_exclude_each_other", async () => {
    const env = { ADMIN_KEY: "0123456789abcdef", ADMIN_KEY_FILE: fileOf("0123456789abcdef") };
    named(await faults(["--data", newFolder()], { env }), [/both ADMIN_KEY and ADMIN_KEY_FILE are set/]);
  });

  test("files_of_secrets_must_exist_have_a_secret_and_be_private", async () => {
    const env = { ADMIN_KEY_FILE: "/none", KEK_1_FILE: fileOf(kek, 0o644), KEK_2_FILE: fileOf("\n") };
    named(await faults(["--data", newFolder()], { env }), [
      /the file of ADMIN_KEY_FILE cannot be read: \/none/,
      /others can read the file of KEK_1_FILE/,
      /the file of KEK_2_FILE is empty/,
    ]);
  });

  test("secrets_of_the_folder_must_be_private_and_known", async () => {
    const data = newFolder();
    mkdirSync(join(data, "secrets"));
    for (const [name, mode] of [
      ["ADMIN_KEY", 0o644],
      ["KEK_1", 0o604],
      ["KEK_10", 0o600],
    ] as const) {
      writeFileSync(join(data, "secrets", name), kek);
      chmodSync(join(data, "secrets", name), mode);
    }
    named(await faults(["--data", data], {}, 1), [
      /others can read .*secrets\/ADMIN_KEY: chmod 600/,
      /others can read .*secrets\/KEK_1: chmod 600/,
      /secrets\/KEK_10 is no secret of the gateway/,
    ]);
  });

  test("keys_that_are_too_short_are_refused_and_any_spelling_of_base64_is_taken", async () => {
    const env = {
      ADMIN_KEY: "short",
      KEK_1: "c2hvcnQ=",
      KEK_2: kek,
      KEK_3: kek.replaceAll("=", ""),
      KEK_4: "*".repeat(43),
    };
    named(await faults(["--data", newFolder()], { env }, 1), [
      /ADMIN_KEY must have at least 16 characters/,
      /KEK_1 must be 32 random bytes in base64/,
      /KEK_4 must be 32 random bytes in base64/,
    ]);
  });
});

describe("certificates", { concurrency: 4, skip: notHere }, () => {
  test("a_certificate_and_its_key_need_each_other", async () => {
    const { cert, key } = pairOf(newFolder());
    named(await faults(["--data", newFolder(), "--tls-cert", cert]), [/--tls-cert needs --tls-key/]);
    named(await faults(["--data", newFolder(), "--tls-key", key]), [/--tls-key needs --tls-cert/]);
  });

  test("files_without_pem_and_keys_that_others_can_read_are_refused", async () => {
    const { cert, key } = pairOf(newFolder());
    chmodSync(key, 0o644);
    const args = ["--tls-cert", fileOf("no PEM"), "--tls-key", key, "--ca", key];
    named(await faults(["--data", newFolder(), ...args]), [
      /the file of --tls-cert has no CERTIFICATE in PEM/,
      /the file of --ca has no CERTIFICATE in PEM/,
      /others can read .*key.pem: chmod 600/,
    ]);
    named(await faults(["--data", newFolder(), "--tls-cert", cert, "--tls-key", fileOf("x")]), [
      /no PRIVATE KEY in PEM/,
    ]);
  });

  const garbage = "-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n";
  for (const [what, args, reason] of [
    [
      "a_key_of_another_certificate",
      (at: Pairs) => ["--tls-cert", at.one.cert, "--tls-key", at.other.key],
      /does not belong/,
    ],
    ["a_certificate_of_garbage", (at: Pairs) => ["--tls-cert", fileOf(garbage), "--tls-key", at.one.key], /--tls-cert/],
    ["an_authority_of_garbage", () => ["--ca", fileOf(garbage)], /--ca/],
  ] as const) {
    test(`${what}_is_refused`, async () => {
      const pairs = { one: pairOf(newFolder()), other: pairOf(newFolder()) };
      const listen = `127.0.0.1:${await freePort()}`;
      const { code, err } = await run(["serve", "--data", newFolder(), "--listen", listen, ...args(pairs)]);
      assert.equal(code, 1, err);
      assert.match(err, /^narthex: cannot serve: .*$/m);
      assert.match(err, reason);
    });
  }
});

type Pairs = Record<"one" | "other", { cert: string; key: string }>;

describe("what only the start shows", { concurrency: 4, skip: notHere }, () => {
  for (const [name, value] of [
    ["CONTEXT_SHARDS", "0"],
    ["HOME_REGION", "mars"],
    ["PUBLIC_URL", "gateway"],
    ["DEMO", "perhaps"],
  ] as const) {
    test(`a_wrong_${name}_is_named_and_nothing_is_served`, async () => {
      const listen = `127.0.0.1:${await freePort()}`;
      const { code, err } = await run(["serve", "--data", newFolder(), "--listen", listen], { env: { [name]: value } });
      assert.equal(code, 1);
      assert.match(err, new RegExp(`^narthex: cannot serve: .*${name} must be `, "m"));
    });
  }

  test("a_port_that_is_taken_is_named", async (t) => {
    const server = createServer().listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const listen = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, err } = await run(["serve", "--data", newFolder(), "--listen", listen]);
    assert.equal(code, 1);
    assert.match(err, new RegExp(`cannot serve: another process listens on ${listen}: choose another address`));
  });

  test("an_address_of_another_machine_and_a_name_of_none_are_named", async () => {
    for (const listen of ["192.0.2.1:8787", "no.such.name.invalid:8787"]) {
      const { code, err } = await run(["serve", "--data", newFolder(), "--listen", listen]);
      assert.equal(code, 1);
      assert.match(err, /cannot serve: this machine has no address (192\.0\.2\.1|no\.such\.name\.invalid)$/m);
    }
  });
});

describe("the folder", { concurrency: 4, skip: notHere }, () => {
  const written = (data: string, text: string) => writeFileSync(join(data, "narthex"), text);
  const stored = (data: string) => {
    mkdirSync(join(data, "state/narthex-Registry"), { recursive: true });
    writeFileSync(join(data, "state/narthex-Registry/x.sqlite"), "");
  };
  const refusals: [what: string, make: (data: string) => void, fault: RegExp][] = [
    [
      "a_folder_with_other_files",
      (data) => writeFileSync(join(data, "photo"), ""),
      /has other files .* It has .*photo/,
    ],
    ["a_folder_without_its_description", stored, /state exists, but .*narthex does not: restore the whole folder/],
    ["a_folder_with_another_description", (data) => written(data, "photo\n"), /narthex is not what the gateway writes/],
    [
      "a_folder_without_its_state",
      (data) => written(data, "format 1\nversion 0.0.1\nserved yes\n"),
      /state is missing: restore the whole folder/,
    ],
    [
      "a_folder_without_its_registry",
      (data) => (
        stored(data),
        rmSync(join(data, "state/narthex-Registry/x.sqlite")),
        written(data, "format 1\nversion 0.0.1\nserved yes\n")
      ),
      /the registry is missing: restore the whole folder/,
    ],
    [
      "a_folder_of_a_later_format",
      (data) => (stored(data), written(data, "format 2\nversion 9.10.0\nserved yes\n")),
      /version 9\.10\.0 has written .* in a later format/,
    ],
    [
      "a_folder_of_a_later_version",
      (data) => (stored(data), written(data, "format 1\nversion 9.10.0\nserved yes\n")),
      /the later version 9\.10\.0 has used .* add --rollback/,
    ],
  ];
  for (const [what, make, fault] of refusals) {
    test(`${what}_is_refused_and_left_as_it_is`, async () => {
      const data = newFolder();
      make(data);
      const before = readdirSync(data);
      named(await faults(["--data", data], {}, 1), [fault]);
      assert.deepEqual(
        readdirSync(data).filter((name) => name !== "run"),
        before,
      );
    });
  }

  test("a_folder_without_its_secrets_is_refused", async () => {
    const data = newFolder();
    stored(data);
    written(data, "format 1\nversion 0.0.1\nserved yes\n");
    named(await faults(["--data", data], {}, 1), [/the secret ADMIN_KEY is missing/, /the secret KEK_1 is missing/]);
  });

  test("a_file_is_no_folder", async () => {
    named(await faults(["--data", fileOf("")], {}, 1), [/is a file: --data is a folder/]);
    named(await faults(["--data", join(fileOf(""), "x")], {}, 1), [
      /cannot be written by this user: .*\(Not a directory\)/,
    ]);
  });

  test("a_folder_that_cannot_be_written_is_refused", async () => {
    const isRoot = process.getuid?.() === 0;
    const by = isRoot ? ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] : [];
    const folder = newFolder();
    chmodSync(folder, 0o555);
    named(await faults(["--data", folder], { by, env: { PATH: process.env.PATH! } }, 1), [
      /cannot be written by this user/,
    ]);
    named(await faults(["--data", join(folder, "x")], { by, env: { PATH: process.env.PATH! } }, 1), [
      /cannot be written by this user: .*\(Permission denied\)/,
    ]);
    chmodSync(folder, 0o700);
    if (isRoot) {
      named(await faults(["--data", folder], { by, env: { PATH: process.env.PATH! } }, 1), [
        /cannot be read by this user/,
      ]);
    }
  });
});
