// The gateway of the tests as `narthex serve` runs it: `NARTHEX_TARGET=serve npm test`. A test that needs something
// else fails with a message by which scripts/files.mjs skips it.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Gateway, GatewayOptions } from "./gateway.ts";
import { newFolder, serve } from "./serve.ts";

/** Options for what only miniflare can do. */
const ELSEWHERE_ONLY = ["elsewhere", "tellsAwaking", "crashes", "objectsFail", "dataset", "bound"] as const;

function notServed(what: string): never {
  throw new Error(`narthex serve has no ${what}`);
}

/** Starts the program with these variables, without the demonstration. */
export async function startServed(
  options: GatewayOptions,
  vars: Record<string, string> & { ADMIN_KEY: string },
): Promise<Gateway> {
  const unknown = ELSEWHERE_ONLY.filter((name) => options[name]);
  if (unknown.length > 0) notServed(unknown.join(" and "));
  if (vars.KEK_1 === "" || vars.ADMIN_KEY === "") notServed("start without secrets");
  const persist = options.persist ?? newFolder();
  const started = await serve({
    data: join(persist, "served"),
    // Tests send the client's address as Cloudflare does.
    env: { ...(vars.STANDALONE === undefined && { CLIENT_IP_HEADER: "cf-connecting-ip" }), ...vars },
    adminKey: vars.ADMIN_KEY,
    args: ["--no-demo", "--grace", "2"],
    ...(options.port && { port: options.port }),
  }).catch((error: Error) => {
    // The program refuses settings with which a deployed gateway refuses requests.
    if (/cannot start:|Variables of this gateway are not valid/.test(error.message))
      notServed("start with such settings");
    throw error;
  });
  const { open, finish, request, url } = started;
  return {
    url,
    adminKey: vars.ADMIN_KEY,
    open,
    finish,
    request:
      options.contract === false
        ? (method, path, more) => request(method, path, { ...more, contract: false })
        : request,
    persist,
    get mf() {
      return notServed("miniflare");
    },
    get logs() {
      return started.log().map((line) => JSON.stringify(line));
    },
    askElsewhere: () => notServed("second isolate"),
    evict: () => notServed("eviction on demand"),
    runCron: () => notServed("cron trigger on demand"),
    async stop() {
      if (existsSync(`/proc/${started.pid}`)) await started.stop();
    },
  };
}
