// Runs every example in README.md and docs/*.md, in README's order of the documents and finally README once more, on
// one gateway and in one shell, as a reader would. The language of a code block decides what is checked:
//
//   console  lines that begin with `$ ` are run in that shell; their output must match the lines below. Ids, times and
//            secrets may differ. `UPDATE_DOCS=1 npm test -- docs` writes the actual output.
//   json     must parse; with `<!-- envelope -->` above, it has the members of a service's envelope. Requests are shown
//            as commands, so that readers of the rendered page see the address.
//   sh       only commands that a test cannot run: see `notRun`.
//   js, ts, python  with `<!-- from FILE -->` above: must be an excerpt of that file.
//   text     not checked.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Writable } from "node:stream";
import { freePort } from "../scripts/ports.mjs";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { PATIENCE_MS } from "./support/patience.ts";
import { notHere } from "./support/serve.ts";
import { startService } from "./support/service.ts";

const update = process.env.UPDATE_DOCS === "1";
const guides = readdirSync(join(root, "docs"))
  .filter((name) => name.endsWith(".md"))
  .sort();
const documents = ["README.md", "CHANGELOG.md", "SECURITY.md", ...guides.map((name) => `docs/${name}`)];

/** The ports in the documents: the gateway's, that of one which the reader starts, and three for services. */
const gatewayPort = "8787";
const otherPorts = ["8790", "9000", "9001", "9002"];
/** The document about the program that serves. */
const selfHosting = "docs/self-hosting.md";

const languages = ["console", "json", "sh", "js", "ts", "python", "text"];

/** Commands of `sh` blocks: they install, run forever, or need an account. */
const notRun = [
  /^npm (start|test|run [a-z]+)( -- .*)?$/,
  /^git (clone|checkout) /,
  // tests/release.test.ts checks the digests; signatures and attestations are made where a release is published.
  /^sha256sum --check /,
  /^diff SHA256SUMS dist\/release\/SHA256SUMS$/,
  /^(cosign verify-blob|gh attestation verify) /,
  /^ {2}--certificate-(identity-regexp|oidc-issuer) /,
  // tests/release.test.ts unpacks the archive, and tests/serve*.test.ts run the program.
  /^tar -xzf narthex-X\.Y\.Z-linux-x64\.tar\.gz\b/,
  /^narthex-X\.Y\.Z-linux-x64\/bin\/narthex serve /,
  /^narthex serve --data narthex-data /,
  /^(useradd|install|cp|systemctl|journalctl|docker) /,
  /^NARTHEX_TARGET=serve npm /,
  /^cd narthex$/,
  /^(openssl rand -base64 32 \| )?npx wrangler (login|deploy|tail|rollback|queues|secret)\b/,
  /^claude mcp (add|list)\b/,
  // tests/generators.test.ts runs these.
  /^npm install openapi-fetch$/,
  /^pip install openapi-python-client$/,
  /^(npx openapi-typescript|npx @hey-api\/openapi-ts -i|openapi-python-client generate --url) \$NARTHEX\/openapi\.json /,
  /^npx @modelcontextprotocol\/inspector --cli /,
];

type Block = { language: string; note: string | undefined; lines: string[]; at: number };

/** A document's code blocks, in order. `at` counts lines from 0 and is the block's first line. */
function blocks(text: string): Block[] {
  const lines = text.split("\n");
  const found: Block[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const language = lines[at]!.match(/^```(\S*)$/)?.[1];
    if (language === undefined) continue;
    const end = lines.indexOf("```", at + 1);
    assert.ok(end > 0, `the block that begins in line ${at + 1} has no end`);
    const note = lines
      .slice(0, at)
      .findLast((line) => line.trim() !== "")
      ?.match(/^<!-- (.*) -->$/)?.[1];
    found.push({ language, note, lines: lines.slice(at + 1, end), at: at + 1 });
    at = end;
  }
  return found;
}

type Step = { command: string; expected: string[]; at: number; end: number };

/** A command ends where its line does, unless that line ends with a backslash or inside single quotes. */
function steps({ lines, at }: Block): Step[] {
  const found: Step[] = [];
  for (let index = 0; index < lines.length;) {
    assert.match(lines[index]!, /^\$ /, `line ${at + index + 1}: output without a command`);
    let command = lines[index++]!.slice(2);
    while (command.endsWith("\\") || (command.split("'").length - 1) % 2 === 1) command += `\n${lines[index++]}`;
    const from = index;
    while (index < lines.length && !lines[index]!.startsWith("$ ")) index += 1;
    found.push({ command, expected: lines.slice(from, index), at: at + from, end: at + index });
  }
  return found;
}

/** Replaces values that differ from run to run by a word. An ellipsis in a document matches any of them. */
const volatile: [RegExp, string][] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "TIME"],
  [/ctx_[0-9a-z…]+/g, "CONTEXT"],
  [/whsec_[A-Za-z0-9+/=…]+/g, "whsec_…"],
  [/(nx|tkt)_(?:default|acme)[-_0-9a-z…]*_[A-Za-z0-9…]+/g, "$1_…"],
  [/aud_[0-9a-z]+/g, "AUDIT"],
  [/default-[0-9a-z]{12}\b/g, "KEY"],
  [/(last_four"?: ?)["']\w{4}["']/g, "$1FOUR"],
  [/req_[0-9a-z]+/g, "REQUEST"],
  [/\b00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b/g, "TRACE"],
  [/\b(na|sa|eu|as|af|oc)00-\d+/g, "EVENT"],
  [/\b\d{16}\b/g, "SEQUENCE"],
  [/^\d+ (?=TIME)/gm, "N "],
  [/((?:execution_time|latency)_ms"?: ?)\d+/g, "$1N"],
  [/(cursor(?:=|":"|: '))[\w-]{40,}/g, "$1CURSOR"],
  [/;t=\d+/g, ";t=N"],
  [/("commit":)(null|"[0-9a-f]{40}")/g, "$1COMMIT"],
  [/Try again in \d+ s/g, "Try again in N s"],
  [/^server-timing: .*$/gim, "server-timing: DURATIONS"],
  [/^(content-length: )\d+$/gim, "$1N"],
];
const normal = (text: string) =>
  volatile.reduce((done, [pattern, word]) => done.replace(pattern, word), text.trimEnd());

/** Documents contain no secrets, not even those of a gateway that no longer exists. */
const masked = (text: string) =>
  text
    .replace(/whsec_[A-Za-z0-9+/=]+/g, "whsec_…")
    .replace(/(nx_(?:default|acme)-[0-9a-z]{12}|tkt_default)_[A-Za-z0-9]+/g, "$1_…");

/** One bash that receives commands one by one, as from a person. */
class Shell {
  readonly #bash: ChildProcess;
  #output = "";

  constructor(environment: Record<string, string>) {
    // Commands arrive on a separate descriptor, so that none reads the next one as its input.
    const loop = 'while IFS= read -r -d "" -u 3 command; do eval "$command"; printf "\\036%s\\036" "$?"; done 2>&1';
    this.#bash = spawn("bash", ["--noprofile", "--norc", "-c", loop], {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: "", NPM_CONFIG_LOGLEVEL: "error", LC_ALL: "C.UTF-8", ...environment },
      stdio: ["ignore", "pipe", "inherit", "pipe"],
      // A separate process group: background processes end with it.
      detached: true,
    });
    this.#bash.stdout!.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    const end = Date.now() + PATIENCE_MS;
    while (!done()) {
      assert.ok(Date.now() < end, `${what}; so far: ${this.#output}`);
      await pause(5);
    }
  }

  /** Runs a command; returns its output. A background command gets time to print its expected output. */
  async run(command: string, expectedLines: number): Promise<string> {
    this.#output = "";
    (this.#bash.stdio[3] as Writable).write(`${command}\0`);
    const mark = /\x1e(\d+)\x1e/;
    await this.#until(() => mark.test(this.#output), `no end of: ${command}`);
    const status = this.#output.match(mark)![1];
    assert.equal(status, "0", `${command} ended with ${status}: ${this.#output}`);
    if (command.endsWith("&") && !command.includes(">")) {
      const said = () => this.#output.replace(mark, "").split("\n").length - 1;
      await this.#until(() => said() >= Math.max(1, expectedLines), `nothing from: ${command}`);
    }
    return this.#output.replace(mark, "").replaceAll("\r", "").trimEnd();
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#bash.once("exit", resolve));
    try {
      process.kill(-this.#bash.pid!, "SIGKILL");
    } catch {
      return;
    }
    await ended;
  }
}

/** Waits until a server listens. */
async function listens(port: string): Promise<void> {
  for (const until = Date.now() + PATIENCE_MS; Date.now() < until;) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(Number(port), "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
      socket.on("close", () => resolve(false));
      setTimeout(() => socket.destroy(), 100);
    });
    if (open) return;
    await pause(10);
  }
  throw new Error(`no server listens on port ${port}`);
}

/** The members of a service's envelope. */
async function envelopeMembers(gateway: Gateway): Promise<string[]> {
  const service = await startService();
  const registration = {
    name: "Envelope",
    type: "custom",
    transport: { kind: "http", url: service.url },
    capabilities: [{ name: "envelope" }],
  };
  assert.equal((await gateway.request("PUT", "/v1/services/envelope", { body: registration })).status, 201);
  await gateway.request("POST", "/v1/contexts", { body: { capability: "envelope" } });
  const call = await service.call(0);
  await service.stop();
  await gateway.request("DELETE", "/v1/services/envelope", { headers: { "if-match": "*" } });
  return Object.keys(call.json);
}

/** In README's order under "Read on"; finally README again. */
const inOrder = (() => {
  const named = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/\]\((docs\/[a-z]+\.md)\)/g)].map(
    ([, path]) => path!,
  );
  const listed = [...new Set(named.slice(named.indexOf("docs/api.md")))];
  return [
    "README.md",
    ...listed,
    ...documents.filter((name) => name !== "README.md" && !listed.includes(name)),
    "README.md",
  ];
})();

let gateway: Gateway;
let shell: Shell;
/** The port that replaces a port of the documents. */
const real = new Map<string, string>();
const here = (line: string) => line.replace(/(?<=127\.0\.0\.1:|PORT=)\d+\b/g, (port) => real.get(port) ?? port);
function there(line: string): string {
  const documented = new Map([...real].map(([name, port]) => [port, name]));
  return line.replace(/(?<=127\.0\.0\.1:)\d+\b/g, (port) => documented.get(port) ?? port);
}

before(async () => {
  // One store: then events come in one order.
  gateway = await startGateway({ vars: { CONTEXT_SHARDS: "1" } });
  real.set(gatewayPort, new URL(gateway.url).port);
  for (const port of otherPorts) real.set(port, String(await freePort()));
  const PATH = `${join(root, "build/serve/bin")}${delimiter}${process.env.PATH}`;
  shell = new Shell({ ADMIN_KEY: gateway.adminKey, NARTHEX: gateway.url, PORT: real.get("9000")!, PATH });
});
after(async () => {
  await shell?.end();
  await gateway?.stop();
});

for (const [at, name] of inOrder.entries()) {
  const skip = name === selfHosting && notHere;
  test(`every_example_in_${name}_runs${inOrder.indexOf(name) < at ? "_again" : ""}`, { skip }, () => runDocument(name));
}

/** Runs a document's examples one after the other. */
async function runDocument(name: string): Promise<void> {
  const path = join(root, name);
  const text = readFileSync(path, "utf8");
  const lines = text.split("\n");
  const changes: { at: number; end: number; lines: string[] }[] = [];
  for (const block of blocks(text)) {
    const where = `${name}, line ${block.at + 1}`;
    if (block.language === "json") {
      const value = JSON.parse(block.lines.join("\n"));
      if (block.note === "envelope") assert.deepEqual(Object.keys(value), await envelopeMembers(gateway), where);
      else assert.equal(block.note, undefined, `${where}: a reader does not see what stands in a comment`);
    }
    if (block.language !== "console") continue;
    for (const { command, expected, at, end } of steps(block)) {
      const printed = there(await shell.run(here(command), expected.length));
      if (/^(.*PORT=(\d+) )?.*examples\/(service|background|mcp-server)\..*&$/.test(command)) {
        await listens(real.get(command.match(/PORT=(\d+)/)?.[1] ?? "9000")!);
      }
      if (normal(printed) === normal(expected.join("\n"))) continue;
      if (!update) assert.equal(normal(printed), normal(expected.join("\n")), `${name}, line ${at}: $ ${command}`);
      changes.push({ at, end, lines: printed === "" ? [] : masked(printed).split("\n") });
    }
  }
  for (const { at, end, lines: printed } of changes.reverse()) lines.splice(at, end - at, ...printed);
  if (changes.length > 0) writeFileSync(path, lines.join("\n"));
}

for (const name of documents) {
  test(`every_other_block_and_link_of_${name}_is_good`, () => {
    const text = readFileSync(join(root, name), "utf8");
    for (const { language, note, lines, at } of blocks(text)) {
      const where = `${name}, line ${at + 1}`;
      assert.ok(languages.includes(language), `${where}: a block of ${language || "no language"}`);
      if (language === "sh") {
        const unknown = lines.filter((line) => !notRun.some((pattern) => pattern.test(line)));
        assert.deepEqual(unknown, [], `${where}: these are not run`);
      }
      if (["js", "ts", "python"].includes(language)) {
        const file = note?.match(/^from (\S+)$/)?.[1];
        assert.ok(file, `${where}: from which file?`);
        const excerpt = lines.join("\n").trimEnd();
        assert.ok(readFileSync(join(root, file), "utf8").includes(excerpt), `${where}: no longer stands in ${file}`);
      }
    }
    const outside = text.replace(/^```[\s\S]*?^```$/gm, "");
    for (const [, target = ""] of outside.matchAll(/\]\(([^)]+)\)|src="([^"]+)"/g)) {
      if (/^https:/.test(target) || target === "") continue;
      const [file, fragment] = target.split("#") as [string, string?];
      const path = file === "" ? join(root, name) : join(root, dirname(name), file);
      assert.ok(existsSync(path), `${name} links to ${target}, which is not there`);
      if (!fragment) continue;
      assert.ok(anchors(readFileSync(path, "utf8")).includes(fragment), `${name}: no heading for ${target}`);
    }
  });
}

/** The fragments of a document's headings, as GitHub makes them. */
const anchors = (text: string) =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );

test("everything_that_the_documents_name_exists", () => {
  const scripts = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).scripts;
  for (const name of documents) {
    const text = readFileSync(join(root, name), "utf8");
    for (const [, script = ""] of text.matchAll(/\bnpm run ([a-z]+)/g)) {
      assert.ok(scripts[script], `${name}: npm run ${script}`);
    }
    for (const [, path = ""] of text.matchAll(/`((?:src|docs|examples|scripts|tests|bench)\/[\w./-]+)`/g)) {
      assert.ok(existsSync(join(root, path)), `${name} names ${path}, which is not there`);
    }
  }
});
