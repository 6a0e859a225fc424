// @ts-check
// `npm start`: serves the gateway on this machine, and restarts it when it dies. Arguments go to `wrangler dev`:
// `npm start -- --port 8790`. front.mjs listens at the address and passes requests on to wrangler.
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { buildWorker } from "./build.mjs";
import { followChildren } from "./children.mjs";
import { startFront } from "./front.mjs";
import { freePort } from "./ports.mjs";
import { node, prepare, root, run, say, seconds } from "./tools.mjs";

/** No questions, no telemetry, no network. */
const QUIET = {
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_SEND_ERROR_REPORTS: "false",
  WRANGLER_HIDE_BANNER: "true",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
};

/** The pause before wrangler is restarted: doubled each time it dies before it has served for CALM_MS. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS, CALM_MS] = [250, 10_000, 60_000];
/** The number of failed starts in a row after which this gives up. */
const VAIN_STARTS = 5;

/** Creates the development secrets at the first start; returns the key only then. */
function ensureSecrets() {
  const path = join(root, ".dev.vars");
  const there = existsSync(path) ? readFileSync(path, "utf8") : "";
  const has = (/** @type {string} */ name) => new RegExp(`^${name}=`, "m").test(there);
  const key = has("ADMIN_KEY") ? undefined : randomBytes(32).toString("base64url");
  const lines = [
    ...(there === "" ? ["# Secrets and settings of this machine only, made by `npm start`; never committed."] : []),
    ...(key ? [`ADMIN_KEY=${key}`] : []),
    // The key that encrypts stored secrets.
    ...(has("KEK_1") ? [] : [`KEK_1=${randomBytes(32).toString("base64")}`]),
    // Lets services be registered at http://127.0.0.1:…, which production refuses.
    ...(has("ALLOW_LOOPBACK") || !key ? [] : ["ALLOW_LOOPBACK=true"]),
  ];
  if (lines.length === 0) return key;
  appendFileSync(path, `${there === "" || there.endsWith("\n") ? "" : "\n"}${lines.join("\n")}\n`, { mode: 0o600 });
  return key;
}

/**
 * The user's arguments: the address, used by the front, and the rest, passed to wrangler.
 * @param {string[]} given
 */
function split(given) {
  const own = new Map([
    ["--ip", "127.0.0.1"],
    ["--port", "8787"],
  ]);
  /** @type {string[]} */
  const rest = [];
  for (let at = 0; at < given.length; at++) {
    const arg = /** @type {string} */ (given[at]);
    const [name = "", value] = arg.split(/=(.*)/s);
    if (own.has(name)) own.set(name, value ?? given[++at] ?? "");
    else rest.push(arg);
  }
  return { ip: /** @type {string} */ (own.get("--ip")), port: Number(own.get("--port")), rest };
}

/**
 * wrangler.toml for this machine: without the build, which `rebuildOnChange` runs; without the cron trigger, which this
 * script calls; without other environments; and with an entry that reads bodies.
 */
async function developmentConfiguration() {
  const { parse } = await import("smol-toml");
  const configuration = /** @type {any} */ (parse(readFileSync(join(root, "wrangler.toml"), "utf8")));
  for (const name of ["build", "triggers", "env"]) delete configuration[name];
  configuration.main = join(root, "development.mjs");
  configuration.assets.directory = join(root, configuration.assets.directory);
  const folder = join(root, ".wrangler/development");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "wrangler.json");
  const text = JSON.stringify(configuration, null, 2);
  // A running gateway watches this file and restarts when it is written: so only changes are written, atomically.
  if (existsSync(path) && readFileSync(path, "utf8") === text) return path;
  const aside = `${path}.${process.pid}`;
  writeFileSync(aside, text);
  renameSync(aside, path);
  return path;
}

/** wrangler's arguments except the port: ours unless the user gave the same one. @param {string[]} given */
async function wranglerArguments(given) {
  const has = (/** @type {string[]} */ ...names) =>
    given.some((arg) => names.some((name) => arg === name || arg.startsWith(`${name}=`)));
  const ours = ["--ip", "127.0.0.1", "--show-interactive-dev-session=false"];
  if (!has("--persist-to")) ours.push("--persist-to", join(root, ".wrangler/state"));
  if (!has("--config", "-c")) {
    ours.push("--config", await developmentConfiguration());
    if (!has("--env-file")) ours.push("--env-file", join(root, ".dev.vars"));
  }
  return ["dev", ...ours, ...given];
}

/** The value of an argument, given as `--name value` or `--name=value`. @param {string[]} args @param {string} name */
function argument(args, name) {
  const at = args.lastIndexOf(name);
  return at >= 0 ? args[at + 1] : args.findLast((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1);
}

/**
 * Settles when the gateway responds: true, or false once `over` is true.
 * @param {string} url @param {() => boolean} over
 */
async function answers(url, over) {
  while (!over()) {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    await response?.arrayBuffer().catch(() => undefined);
    if (response?.ok) return true;
    await pause(100);
  }
  return false;
}

/** Runs the cron handler every minute, which `wrangler dev` does not do. @param {() => number | undefined} port */
function runCron(port) {
  setInterval(() => {
    // The Worker may be restarting; the next run is a minute later.
    if (port() === undefined) return;
    fetch(`http://127.0.0.1:${port()}/cdn-cgi/handler/scheduled`)
      .then((response) => response.arrayBuffer())
      .catch(() => {});
  }, 60_000).unref();
}

/** Rebuilds after changes in `src` and `crates`; wrangler notices the new build by itself. */
function rebuildOnChange() {
  /** @type {NodeJS.Timeout | undefined} */
  let soon;
  let building = Promise.resolve();
  const build = async () => {
    say("building what changed …");
    await buildWorker().catch((error) => say(error.message));
  };
  const changed = () => {
    clearTimeout(soon);
    soon = setTimeout(() => {
      building = building.then(build);
    }, 300);
  };
  for (const folder of ["src", "crates"]) watch(join(root, folder), { recursive: true }, changed).unref();
}

/**
 * Filters wrangler's output for the Worker's log, which are lines of JSON. The rest are the bindings, repeated with
 * each build, and wrangler's own address, which is not the one to call. Errors are written to standard error.
 */
function logOnly() {
  if (process.env.WRANGLER_LOG) return (/** @type {string} */ text) => void process.stdout.write(text);
  let begun = "";
  return (/** @type {string} */ text) => {
    const lines = `${begun}${text}`.split("\n");
    begun = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("{")) process.stdout.write(`${line}\n`);
  };
}

/**
 * Runs `wrangler dev` as long as this process runs; returns its exit code if it cannot be started.
 * @param {string[]} args @param {(port: number | undefined) => void} onServing what serves now
 */
async function keepServing(args, onServing) {
  // Not its launcher, which when killed leaves this one running.
  const program = ["--no-warnings", join(root, "node_modules/wrangler/wrangler-dist/cli.js")];
  let everServed = false;
  for (let [vain, wait] = [0, FIRST_PAUSE_MS]; ; wait = Math.min(wait * 2, LONGEST_PAUSE_MS)) {
    const [port, began] = [await freePort(), Date.now()];
    let [over, served] = [false, false];
    /** @type {number | undefined} */
    let pid;
    const children = followChildren(() => pid);
    const serving = answers(`http://127.0.0.1:${port}`, () => over).then((good) => {
      if (!good) return;
      served = everServed = true;
      children.look();
      onServing(port);
    });
    const code = await run(node, [...program, ...args, "--port", String(port)], {
      env: { ...process.env, ...QUIET },
      onStdout: logOnly(),
      onPid: (id) => {
        pid = id;
      },
    });
    over = true;
    children.end();
    await serving;
    onServing(undefined);
    vain = served ? 0 : vain + 1;
    // If it never serves, its arguments or configuration are wrong.
    if (!everServed || vain >= VAIN_STARTS) return code || 1;
    if (served && Date.now() - began > CALM_MS) wait = FIRST_PAUSE_MS;
    say(`wrangler ended after ${seconds(began)} and is started again; everything that was stored is kept`);
    await pause(wait);
  }
}

/**
 * The address to call; a wildcard address is replaced by one that can be called.
 * @param {string} ip @param {number} port
 */
function urlOf(ip, port) {
  const host = ip === "*" || ip === "0.0.0.0" ? "127.0.0.1" : ip === "::" ? "::1" : ip;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/**
 * Prints the address and first steps once the gateway serves.
 * @param {string} url @param {string | undefined} key @param {string} secrets
 */
function printFirstSteps(url, key, secrets) {
  const line = key ? `export ADMIN_KEY=${key}` : `export ADMIN_KEY=$(sed -n 's/^ADMIN_KEY=//p' ${secrets})`;
  say(`Ready on ${url} – the console too. In another terminal, in this folder:

  ${line}
  curl -s ${url}/v1/whoami -H "Authorization: Bearer $ADMIN_KEY"
`);
}

/** Options with which wrangler serves other than by plain HTTP on this machine: the front cannot handle them. */
const APART = ["--local-protocol", "--https-key-path", "--https-cert-path", "--remote", "-r", "--tunnel"];

async function serve() {
  const { ip, port, rest } = split(process.argv.slice(2));
  const apart = rest.find((arg) => APART.includes(arg.split("=", 1)[0] ?? ""));
  if (apart)
    throw new Error(
      `\`npm start\` serves plain HTTP from this machine; for ${apart} build (\`npm run build\`) and run \`npx wrangler dev\``,
    );
  // The user's own file replaces .dev.vars.
  const secrets = argument(rest, "--env-file") ?? ".dev.vars";
  const key = secrets === ".dev.vars" ? ensureSecrets() : undefined;
  // Before minutes of building, so that an address in use is reported at once.
  const front = await startFront(ip === "*" ? "0.0.0.0" : ip, port).catch((error) => {
    throw new Error(
      `cannot listen on ${ip}:${port}: ${error.code === "EADDRINUSE" ? "the address is in use; choose another with `npm start -- --port 8790`" : error.message}`,
    );
  });
  const url = urlOf(ip, front.port);
  await prepare();
  await buildWorker();
  say(`starting on ${url} …`);
  /** @type {number | undefined} */
  let serving;
  let isRestart = false;
  runCron(() => serving);
  if (process.env.NARTHEX_BUILD !== "none") rebuildOnChange();
  return keepServing(await wranglerArguments(rest), (inner) => {
    front.to((serving = inner));
    if (inner === undefined) return;
    if (isRestart) say(`Ready again on ${url}`);
    else printFirstSteps(url, key, secrets);
    isRestart = true;
  });
}

try {
  process.exitCode = await serve();
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}
// Frees the address even if requests are still waiting.
process.exit();
