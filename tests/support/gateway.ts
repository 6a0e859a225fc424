// The built gateway in miniflare, reached by real HTTP on a loopback port.
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { type Client, clientOf } from "./client.ts";
import { type Configuration, readConfiguration, root } from "./configuration.ts";
import { Contract } from "./contract.ts";
import { startServed } from "./served.ts";
import { Log, LogLevel, Miniflare, type MiniflareOptions } from "./miniflare.ts";

export type { Answer, Client, RequestOptions } from "./client.ts";

export type GatewayOptions = {
  /** Folder for the state, kept at the end. Default: a temporary folder, removed by `stop()`. */
  persist?: string;
  /** Variables in addition to, or instead of, wrangler.toml's `[vars]`. */
  vars?: Record<string, string>;
  /** Shortens leases, permits and the intervals at which the gateway looks again: a fraction, 1 without it. */
  timeScale?: number;
  /** Port on 127.0.0.1. Default: any free one. */
  port?: number;
  /** False: responses are not checked against the contract. */
  contract?: boolean;
  /** True: a second isolate of the Worker runs on the same objects, as in another location. */
  elsewhere?: boolean;
  /** True: an object that holds watchers writes `awake: <class> <name>` to `logs` whenever it is constructed. */
  tellsAwaking?: boolean;
  /** True: `POST /panic/worker|object|alarm` and the socket message `die` panic there (tests/support/panics.mjs). */
  crashes?: boolean;
  /** True: calls of objects fail as `POST /failing` says (tests/support/failing-objects.mjs). */
  objectsFail?: boolean;
  /** True: a dataset is bound as `USAGE`; its data points are written to `logs` as `point: {…}`. */
  dataset?: boolean;
  /** Other Workers, as modules, by the names of their service bindings. */
  bound?: Record<string, string>;
};

export type Gateway = Client & {
  /** The folder of the state. */
  persist: string;
  /** Sends a request to the second isolate, with this bearer token; returns the status. */
  askElsewhere(
    method: string,
    path: string,
    key: string,
    body?: object,
    headers?: Record<string, string>,
  ): Promise<number>;
  mf: Miniflare;
  /** Evicts an object from memory; its sockets hibernate (default) or are closed. */
  evict(className: string, name: string, options?: { webSockets?: "hibernate" | "close" }): Promise<void>;
  /** Runs the cron handler now. */
  runCron(): Promise<void>;
  /** The Worker's console output so far, one entry per call. */
  logs: string[];
  stop(): Promise<void>;
};

/** The key-encryption key; the same for all gateways of a test file, so that one can read another's state. */
export const keyEncryptionKey = randomBytes(32).toString("base64");

/** The variables and secrets of a gateway. */
function varsOf({ timeScale, vars }: GatewayOptions): Record<string, string> & { ADMIN_KEY: string } {
  return {
    ADMIN_KEY: randomBytes(32).toString("base64url"),
    KEK_1: keyEncryptionKey,
    ALLOW_LOOPBACK: "true",
    // Tests send bad credentials by the dozen, all from one address.
    FAILED_LOGINS: "1000000",
    ...(timeScale !== undefined && { TIME_SCALE: String(timeScale) }),
    ...vars,
  };
}

/** With `NARTHEX_TARGET=serve`, the gateway is `narthex serve` of the last build. */
export async function startGateway(options: GatewayOptions = {}): Promise<Gateway> {
  if (process.env.NARTHEX_TARGET === "serve") return startServed(options, varsOf(options));
  const configuration = readConfiguration();
  const vars = varsOf(options);
  const adminKey = vars.ADMIN_KEY;
  const persist = options.persist ?? mkdtempSync(join(tmpdir(), "narthex-test-"));
  const forget = () => rmSync(persist, { recursive: true, force: true });
  // Even if a test fails before it stops its gateway.
  if (options.persist === undefined) process.once("exit", forget);
  const logs: string[] = [];
  const serviceBindings = Object.fromEntries(
    Object.keys(options.bound ?? {}).map((name) => [name, name.toLowerCase()]),
  );
  const worker = {
    ...workerOptions(configuration, vars, await before(options)),
    serviceBindings,
    ...(options.dataset && { wrappedBindings: { USAGE: { scriptName: DATASET.name } } }),
  };
  const { compatibilityDate } = worker;
  const bound = Object.entries(options.bound ?? {}).map(([name, script]) => ({
    name: name.toLowerCase(),
    modules: true as const,
    script,
    compatibilityDate,
  }));
  const others = [...(options.elsewhere ? [elsewhere(worker)] : []), ...(options.dataset ? [DATASET] : []), ...bound];
  const workers = [worker, ...others];
  const mf = new Miniflare({
    ...(workers.length > 1 ? { workers } : worker),
    host: "127.0.0.1",
    port: options.port ?? 0,
    cf: false,
    defaultPersistRoot: persist,
    log: new Log(LogLevel.ERROR),
    handleStructuredLogs: ({ message }: { message: string }) => void logs.push(message),
  });
  const url = (await mf.ready).origin;
  const contract = options.contract === false ? undefined : Contract.load();

  return {
    ...clientOf(url, () => adminKey, contract),
    persist,
    mf,
    logs,
    async askElsewhere(method, path, key, body, more) {
      // miniflare's types depend on a package that is not installed.
      const worker = (await mf.getWorker("elsewhere")) as unknown as { fetch: typeof fetch };
      const headers = { ...more, authorization: `Bearer ${key}`, ...(body && { "content-type": "application/json" }) };
      const answer = await worker.fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
      await answer.arrayBuffer();
      return answer.status;
    },
    async evict(className, name, { webSockets = "hibernate" } = {}) {
      const evicting = mf.unsafeEvictDurableObject(configuration.name, className, { name, webSockets });
      await evicting.catch((error: Error) => {
        // It hibernates already, as intended.
        if (!error.message.includes("it is not currently running")) throw error;
      });
    },
    async runCron() {
      // miniflare's types depend on a package that is not installed.
      const worker = (await mf.getWorker()) as unknown as { scheduled(event: { cron: string }): Promise<unknown> };
      await worker.scheduled({ cron: "* * * * *" });
    },
    async stop() {
      await mf.dispose();
      if (options.persist === undefined) {
        process.off("exit", forget);
        forget();
      }
    },
  };
}

/** A second isolate of the Worker, on the first one's objects. */
function elsewhere({ durableObjects, queueConsumers: _, assets: __, ...worker }: ReturnType<typeof workerOptions>) {
  const theirs = Object.entries(durableObjects).map(([binding, one]) => [
    binding,
    { ...(one as object), scriptName: worker.name },
  ]);
  return { ...worker, name: "elsewhere", durableObjects: Object.fromEntries(theirs) };
}

/** Wraps the built Worker: reports when an evicted object is constructed again, which nothing else shows. */
const AWAKING = `
import { EventHub as Hub, EventShard as Shard } from "./worker.mjs";
export * from "./worker.mjs";
export { default } from "./worker.mjs";
const telling = (name, of) => class extends of {
  constructor(ctx, env) {
    super(ctx, env);
    console.log(\`awake: \${name} \${ctx.id.name}\`);
  }
};
export const EventHub = telling("EventHub", Hub);
export const EventShard = telling("EventShard", Shard);
`;

/** Workers Analytics Engine, as far as it is used: miniflare's own discards the data. */
const DATASET = {
  name: "dataset",
  modules: true,
  script: "export default () => ({ writeDataPoint: (point) => console.log(`point: ${JSON.stringify(point)}`) });",
};

/** The module that goes before the built Worker, or stands in its place. */
async function before({ tellsAwaking, crashes, objectsFail }: GatewayOptions): Promise<string | undefined> {
  if (tellsAwaking) return AWAKING;
  if (!crashes && !objectsFail) return undefined;
  const { outputFiles } = await build({
    tsconfigRaw: "{}",
    entryPoints: [join(root, "tests/support", crashes ? "panics.mjs" : "failing-objects.mjs")],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    external: ["cloudflare:*", "*.wasm"],
    logLevel: "warning",
  });
  return outputFiles[0]!.text;
}

/** wrangler.toml in miniflare's words. */
function workerOptions(from: Configuration, extra: Record<string, string>, first: string | undefined) {
  const script = join(root, "build/worker.mjs");
  if (!existsSync(script)) throw new Error("build/worker.mjs is missing: run `npm run build` first");
  const withSql = new Set(from.migrations?.flatMap((migration) => migration.new_sqlite_classes ?? []));
  return {
    name: from.name,
    modulesRoot: join(root, "build"),
    modules: [
      ...(first ? [{ type: "ESModule" as const, path: join(root, "build/first.mjs"), contents: first }] : []),
      { type: "ESModule", path: script },
      { type: "CompiledWasm", path: join(root, "build/index_bg.wasm") },
    ],
    compatibilityDate: from.compatibility_date,
    compatibilityFlags: from.compatibility_flags ?? [],
    bindings: { ...from.vars, ...extra },
    durableObjects: Object.fromEntries(
      (from.durable_objects?.bindings ?? []).map(({ name, class_name }) => [
        name,
        { className: class_name, useSQLite: withSql.has(class_name) },
      ]),
    ),
    queueProducers: Object.fromEntries(
      (from.queues?.producers ?? []).map(({ binding, queue }) => [binding, { queueName: queue }]),
    ),
    queueConsumers: Object.fromEntries(
      (from.queues?.consumers ?? []).map((consumer) => [
        consumer.queue,
        {
          maxBatchSize: consumer.max_batch_size,
          maxBatchTimeout: consumer.max_batch_timeout,
          maxRetries: consumer.max_retries,
          retryDelay: consumer.retry_delay,
          deadLetterQueue: consumer.dead_letter_queue,
        },
      ]),
    ),
    ...(from.assets && {
      assets: {
        directory: join(root, from.assets.directory),
        ...(from.assets.binding && { binding: from.assets.binding }),
        routerConfig: {
          has_user_worker: true,
          invoke_user_worker_ahead_of_assets: from.assets.run_worker_first === true,
        },
      },
    }),
  } satisfies Partial<MiniflareOptions>;
}
