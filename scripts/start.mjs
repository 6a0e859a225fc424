// @ts-check
// `npm start`: serves the gateway on this machine. Arguments go to `wrangler dev`: `npm start -- --port 8790`.
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildWorker } from "./build.mjs";
import { node, prepare, root, run, say } from "./tools.mjs";

const DEFAULTS = { "--ip": "127.0.0.1", "--port": "8787", "--persist-to": ".wrangler/state" };

/** Asks nothing, reports nothing, and does without the network. */
const QUIET = {
  WRANGLER_SEND_METRICS: "false", WRANGLER_SEND_ERROR_REPORTS: "false", WRANGLER_HIDE_BANNER: "true",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
};

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

/** wrangler's arguments: ours unless the user gave the same one. @param {string[]} given */
function wranglerArguments(given) {
  const has = (/** @type {string} */ name) => given.some((arg) => arg === name || arg.startsWith(`${name}=`));
  const ours = Object.entries(DEFAULTS).flatMap(([name, value]) => (has(name) ? [] : [name, value]));
  if (!process.stdin.isTTY) ours.push("--show-interactive-dev-session=false");
  return ["dev", ...ours, ...given];
}

/** The value of an argument, given as `--name value` or `--name=value`. @param {string[]} args @param {string} name */
function argument(args, name) {
  const at = args.lastIndexOf(name);
  return at >= 0 ? args[at + 1] : args.findLast((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Runs the cron handler every minute, which `wrangler dev` leaves to others. @param {string} url */
function runCron(url) {
  setInterval(() => {
    // While the Worker restarts nobody listens; the next minute comes.
    fetch(`${url}/cdn-cgi/handler/scheduled`).then((response) => response.arrayBuffer()).catch(() => {});
  }, 60_000).unref();
}

function serve() {
  const key = ensureSecrets();
  const args = wranglerArguments(process.argv.slice(2));
  const url = `http://${argument(args, "--ip")}:${argument(args, "--port")}`;
  const line = key ? `export ADMIN_KEY=${key}` : "export ADMIN_KEY=$(sed -n 's/^ADMIN_KEY=//p' .dev.vars)";
  say(`serving on ${url} – the console too. In another terminal, in this folder:

  ${line}
  curl -s ${url}/v1/whoami -H "Authorization: Bearer $ADMIN_KEY"
`);

  runCron(url);
  return run(node, [join(root, "node_modules/wrangler/bin/wrangler.js"), ...args], {
    env: { ...process.env, ...QUIET }, stdin: "inherit",
  });
}

try {
  await prepare();
  await buildWorker();
  process.exitCode = await serve();
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}
