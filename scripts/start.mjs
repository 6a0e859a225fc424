// @ts-check
// `npm start`: serves the gateway on this machine, and starts it again when it dies. Arguments go to `wrangler dev`:
// `npm start -- --port 8790`. The address itself is front.mjs's, which passes requests on to wrangler's.
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, watch, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { buildWorker } from "./build.mjs";
import { followChildren } from "./children.mjs";
import { startFront } from "./front.mjs";
import { node, prepare, root, run, say, seconds } from "./tools.mjs";

/** Asks nothing, reports nothing, and does without the network. */
const QUIET = {
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_SEND_ERROR_REPORTS: "false",
  WRANGLER_HIDE_BANNER: "true",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
};

/** Pauses before wrangler is started again: doubled each time it dies before it served for CALM_MS. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS, CALM_MS] = [250, 10_000, 60_000];
/** After so many starts in a row that came to nothing it is given up. */
const VAIN_STARTS = 5;

/** Makes the development secrets at the first start; gives the key only then. */
function ensureSecrets() {
  const path = join(root, ".dev.vars");
  const there = existsSync(path) ? readFileSync(path, "utf8") : "";
  const has = (/** @type {string} */ name) => new RegExp(`^${name}=`, "m").test(there);
  const key = has("ADMIN_KEY") ? undefined : randomBytes(32).toString("base64url");
  const lines = [
    ...(there === "" ? ["# Secrets and settings of this machine only, made by `npm start`; never committed."] : []),
    ...(key ? [`ADMIN_KEY=${key}`] : []),
    // What secrets are stored under.
    ...(has("KEK_1") ? [] : [`KEK_1=${randomBytes(32).toString("base64")}`]),
    // Lets services be registered at http://127.0.0.1:…, which production refuses.
    ...(has("ALLOW_LOOPBACK") || !key ? [] : ["ALLOW_LOOPBACK=true"]),
  ];
  if (lines.length === 0) return key;
  appendFileSync(path, `${there === "" || there.endsWith("\n") ? "" : "\n"}${lines.join("\n")}\n`, { mode: 0o600 });
  return key;
}

/**
 * What the user gave: the address, which is the front's, and the rest, which goes to wrangler.
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
 * wrangler.toml as it serves here: without the build, which would run twice more and which `rebuildOnChange` does; with
 * the cron trigger left out, which is called from here; and with an entry that reads bodies.
 */
async function developmentConfiguration() {
  const { parse } = await import("smol-toml");
  const {
    build: _,
    triggers: __,
    ...configuration
  } = /** @type {any} */ (parse(readFileSync(join(root, "wrangler.toml"), "utf8")));
  configuration.main = join(root, "development.mjs");
  configuration.assets.directory = join(root, configuration.assets.directory);
  const folder = join(root, ".wrangler/development");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "wrangler.json");
  const text = JSON.stringify(configuration, null, 2);
  // A gateway that runs watches it, and starts again when it is written: only a change is, and as a whole.
  if (existsSync(path) && readFileSync(path, "utf8") === text) return path;
  const aside = `${path}.${process.pid}`;
  writeFileSync(aside, text);
  renameSync(aside, path);
  return path;
}

/** wrangler's arguments but for the port: ours unless the user gave the same one. @param {string[]} given */
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

/** A port that is free now. @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
      .on("error", reject)
      .listen(0, "127.0.0.1", () => {
        const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
        server.close(() => resolve(port));
      });
  });
}

/** Settles when the gateway answers: true, or false when it is over. @param {string} url @param {() => boolean} over */
async function answers(url, over) {
  while (!over()) {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    await response?.arrayBuffer().catch(() => undefined);
    if (response?.ok) return true;
    await pause(100);
  }
  return false;
}

/** Runs the cron handler every minute, which `wrangler dev` leaves to others. @param {() => number | undefined} port */
function runCron(port) {
  setInterval(() => {
    // While the Worker restarts there is none; the next minute comes.
    if (port() === undefined) return;
    fetch(`http://127.0.0.1:${port()}/cdn-cgi/handler/scheduled`)
      .then((response) => response.arrayBuffer())
      .catch(() => {});
  }, 60_000).unref();
}

/** Builds again what changed in `src` and `crates`; wrangler sees the new build by itself. */
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
 * The Worker's log of what wrangler writes: lines of JSON. The rest are its bindings, once more with each build, and its
 * own address, which is not the one to call. What is wrong it writes to standard error.
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
 * Runs `wrangler dev` for as long as this runs; gives its exit code when it cannot be started.
 * @param {string[]} args @param {(port: number | undefined) => void} onServing what serves now
 */
async function keepServing(args, onServing) {
  // Not its launcher, whose end would leave this one running.
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
    // What does not serve even once has arguments or a configuration that are wrong.
    if (!everServed || vain >= VAIN_STARTS) return code || 1;
    if (served && Date.now() - began > CALM_MS) wait = FIRST_PAUSE_MS;
    say(`wrangler ended after ${seconds(began)} and is started again; everything that was stored is kept`);
    await pause(wait);
  }
}

/** The address to call: one that stands for all of this machine's addresses is none. @param {string} ip @param {number} port */
function urlOf(ip, port) {
  const host = ip === "*" || ip === "0.0.0.0" ? "127.0.0.1" : ip === "::" ? "::1" : ip;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** What is printed once the gateway serves. @param {string} url @param {string | undefined} key @param {string} secrets */
function tellHow(url, key, secrets) {
  const line = key ? `export ADMIN_KEY=${key}` : `export ADMIN_KEY=$(sed -n 's/^ADMIN_KEY=//p' ${secrets})`;
  say(`Ready on ${url} – the console too. In another terminal, in this folder:

  ${line}
  curl -s ${url}/v1/whoami -H "Authorization: Bearer $ADMIN_KEY"
`);
}

/** What wrangler serves otherwise than by plain HTTP on this machine: nothing can stand before that. */
const APART = ["--local-protocol", "--https-key-path", "--https-cert-path", "--remote", "-r", "--tunnel"];

async function serve() {
  const { ip, port, rest } = split(process.argv.slice(2));
  const apart = rest.find((arg) => APART.includes(arg.split("=", 1)[0] ?? ""));
  if (apart)
    throw new Error(
      `\`npm start\` serves plain HTTP from this machine; for ${apart} build (\`npm run build\`) and run \`npx wrangler dev\``,
    );
  // A file of the user's stands in for .dev.vars.
  const secrets = argument(rest, "--env-file") ?? ".dev.vars";
  const key = secrets === ".dev.vars" ? ensureSecrets() : undefined;
  // Before minutes of building: an address that is taken is said at once.
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
  let told = false;
  runCron(() => serving);
  if (process.env.NARTHEX_BUILD !== "none") rebuildOnChange();
  return keepServing(await wranglerArguments(rest), (inner) => {
    front.to((serving = inner));
    if (inner === undefined) return;
    if (told) say(`Ready again on ${url}`);
    else tellHow(url, key, secrets);
    told = true;
  });
}

try {
  process.exitCode = await serve();
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}
// The address is given back, whatever still waits on it.
process.exit();
