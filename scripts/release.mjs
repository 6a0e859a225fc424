// @ts-check
// `npm run release`: builds the Worker and makes the files of a release. It publishes nothing:
// .github/workflows/release.yml runs it, then signs and publishes the files.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { buildWorker } from "./build.mjs";
import { changesOf } from "./changes.mjs";
import { changedFiles, commitTime, tags } from "./git.mjs";
import { node, prepare, root, run, say, seconds } from "./tools.mjs";

const USAGE = `npm run release -- [--dry-run] [--out DIR]

Builds the Worker and makes the files of a release:

  narthex-X.Y.Z-linux-x64.tar.gz   the program, which serves without Cloudflare
  narthex-X.Y.Z.tgz                the same as a package of npm, for \`npx narthex serve\`
  narthex-worker-X.Y.Z.tar.gz      the finished Worker, for \`npx wrangler deploy\`
  narthex-X.Y.Z.cdx.json           what is in them, as a CycloneDX bill of materials
  CHANGES.md                       the part of CHANGELOG.md
  SHA256SUMS                       the digests of the others, for \`sha256sum -c\`

X.Y.Z is the version in package.json. The same commit gives the same bytes, whenever and wherever it is built. Nothing
is published.

  --dry-run   make them from any sources. Without it, the sources must be a commit without changes
              and with the tag vX.Y.Z, and CHANGELOG.md must have a part for the version
  --out DIR   the folder; a release in it is replaced (default: dist/release)
  --help      show this text
`;

/** What a folder may have that is to be replaced. */
const OWN = /^(narthex-.+\.(tar\.gz|tgz|cdx\.json)|CHANGES\.md|SHA256SUMS|\.staging)$/;
/** Every archive has these, where they exist. */
const DOCUMENTS = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md", "SECURITY.md"];

/** @type {string} */
const version = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;

/** @typedef {{ dryRun: boolean, out: string }} Options */

/**
 * Throws an error that names every argument that is wrong.
 * @param {string[]} args @returns {Options | null} null if only help was requested
 */
function readOptions(args) {
  const { values, positionals, tokens } = parseArgs({
    args,
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: { "dry-run": { type: "boolean" }, out: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  const options = tokens.filter((token) => token.kind === "option");
  const wrong = options.flatMap(({ name, rawName, value }) => {
    if (!["dry-run", "out", "help"].includes(name)) return [`${rawName} is not an option`];
    if (name !== "out") return value === undefined ? [] : [`${rawName} takes no value`];
    return value === undefined || value === "" || value.startsWith("-") ? ["--out takes a folder"] : [];
  });
  wrong.push(...positionals.map((word) => `${word} is not an option`));
  if (wrong.length > 0) throw new Error(`${wrong.join("; ")}. See npm run release -- --help`);
  if (values.help) return null;
  return { dryRun: values["dry-run"] === true, out: resolve(root, String(values.out ?? "dist/release")) };
}

/** What keeps the sources from being released. */
function obstacles() {
  const changed = changedFiles();
  const tag = `v${version}`;
  const found = [];
  if (changed === undefined) found.push("the sources are not a Git repository");
  else if (changed.length > 0) {
    const shown = changed.slice(0, 10).join(", ");
    found.push(`files are not committed: ${shown}${changed.length > 10 ? ` and ${changed.length - 10} more` : ""}`);
  }
  if (!tags().includes(tag)) found.push(`the commit has no tag ${tag}, which is the version in package.json`);
  if (changesOf(version) === undefined) found.push(`CHANGELOG.md has no part [${version}]`);
  if (process.env.NARTHEX_BUILD) found.push("NARTHEX_BUILD is set, and a release needs the full build");
  return found;
}

/** Empties the folder for a new release. @param {string} out */
function clear(out) {
  mkdirSync(out, { recursive: true });
  const present = readdirSync(out);
  const foreign = present.filter((name) => !OWN.test(name));
  if (foreign.length > 0)
    throw new Error(`${out} has files that are not of a release: ${foreign.join(", ")}. Name another folder`);
  for (const name of present) rmSync(join(out, name), { recursive: true });
}

/**
 * Names the commit in the contracts, which are served with the console's files. Other files stay as they are.
 * @param {string | null} commit @returns {(name: string, bytes: Buffer) => Buffer}
 */
const namingCommit = (commit) => (name, bytes) => {
  if (commit === null || !["openapi.json", "asyncapi.json"].includes(name)) return bytes;
  const named = bytes.toString().replace(/^ "info":\{$/m, (line) => `${line}\n  "x-commit":"${commit}",`);
  if (JSON.parse(named).info["x-commit"] !== commit) throw new Error(`console/${name} has another form than expected`);
  return Buffer.from(named);
};

/**
 * Copies files of the project where they exist, to the same path, or to the one after the colon.
 * @param {string} folder @param {string[]} paths
 */
function copy(folder, paths) {
  for (const [from = "", to = from] of paths.map((path) => path.split(":"))) {
    if (!existsSync(join(root, from))) continue;
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    cpSync(join(root, from), join(folder, to));
  }
}

/** The archives: their files, their top folders, and what writes the content. @param {string | null} commit */
async function archives(commit) {
  const { assemble } = await import("./assemble.mjs");
  const { writeWorkerFolder } = await import("./worker-folder.mjs");
  const { writePackageFolder } = await import("./package-folder.mjs");
  const change = namingCommit(commit);
  return [
    {
      file: `narthex-${version}-linux-x64.tar.gz`,
      name: `narthex-${version}-linux-x64`,
      async write(/** @type {string} */ folder) {
        await assemble(folder, { version, commit, change });
        copy(folder, [
          ...DOCUMENTS,
          "docs/self-hosting.md",
          "docs/upgrading.md",
          "serve/narthex.service:narthex.service",
        ]);
      },
    },
    {
      file: `narthex-${version}.tgz`,
      // As npm has it.
      name: "package",
      async write(/** @type {string} */ folder) {
        await writePackageFolder(folder, { version, commit, change });
        copy(folder, DOCUMENTS);
      },
    },
    {
      file: `narthex-worker-${version}.tar.gz`,
      name: `narthex-worker-${version}`,
      async write(/** @type {string} */ folder) {
        writeWorkerFolder(folder, change);
        copy(folder, [...DOCUMENTS, "docs/operating.md", "docs/upgrading.md"]);
      },
    },
  ];
}

/** Makes the files of a release, but for their digests. @param {string} out */
async function make(out) {
  // What the bundle says; `NARTHEX_BUILD=none` may have left an earlier one.
  /** @type {{ commit: string | null }} */
  const { commit } = await import(join(root, "build/version.mjs"));
  const time = commitTime() ?? 0;
  const { writeArchive } = await import("./archive.mjs");
  const { billOfMaterials } = await import("./sbom.mjs");
  for (const { file, name, write } of await archives(commit)) {
    say(`making ${file} …`);
    const folder = join(out, ".staging", name);
    mkdirSync(folder, { recursive: true });
    await write(folder);
    await writeArchive(join(out, file), folder, name, time);
  }
  rmSync(join(out, ".staging"), { recursive: true });
  say("listing what is inside …");
  writeFileSync(join(out, `narthex-${version}.cdx.json`), billOfMaterials({ version, commit, time }));
  writeFileSync(join(out, "CHANGES.md"), changesOf(version) ?? changesOf("Unreleased") ?? "");
  return commit;
}

/** Writes SHA256SUMS, and prints a line for each file. @param {string} out */
async function summarize(out) {
  const { digest } = await import("./archive.mjs");
  const names = readdirSync(out).sort();
  const rows = [];
  for (const name of names) rows.push({ name, digest: await digest(join(out, name)) });
  writeFileSync(join(out, "SHA256SUMS"), rows.map((row) => `${row.digest}  ${row.name}\n`).join(""));
  const width = Math.max(...names.map((name) => name.length));
  for (const row of rows) {
    const size = statSync(join(out, row.name)).size;
    const shown = size < 1024 * 1024 ? `${Math.ceil(size / 1024)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
    say(`${row.name.padEnd(width)}  ${shown.padStart(9)}  ${row.digest}`);
  }
}

/** @param {Options} options */
async function release({ dryRun, out }) {
  const started = Date.now();
  const found = dryRun ? [] : obstacles();
  if (found.length > 0) throw new Error(`${found.join("; ")}. With --dry-run the files are made all the same`);
  clear(out);
  say("building the Worker …");
  await buildWorker();
  const commit = await make(out);
  await summarize(out);
  const shown = relative(process.cwd(), out) || ".";
  const from = commit === null ? "sources that are no commit" : `commit ${commit}`;
  say(`narthex ${version} of ${from} is in ${shown} (${seconds(started)})`);
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options === null) process.stdout.write(USAGE);
  else {
    await prepare();
    // One version of zlib gives the same bytes: that of the project's Node.
    const own = statSync(node).ino === statSync(process.execPath).ino;
    if (own) await release(options);
    else process.exitCode = await run(node, [import.meta.filename, ...process.argv.slice(2)]);
  }
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}
