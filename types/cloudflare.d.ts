// What the Worker of wrangler.toml is bound to, as its JavaScript sees it; the platform's own types come from
// `@cloudflare/workers-types`. Those redefine globals of Node, so only tsconfig.worker.json has them.
declare namespace Cloudflare {
  interface Env {
    REGISTRY: DurableObjectNamespace<Called>;
    CONTEXTS: DurableObjectNamespace<Called>;
    EVENTS: DurableObjectNamespace<Called>;
    LANES: DurableObjectNamespace<Called>;
    GRANTS: DurableObjectNamespace<Called>;
    LIMITS: DurableObjectNamespace<Called>;
    SCHEDULES: DurableObjectNamespace<Called>;
    SHARDS: DurableObjectNamespace<Called>;
    SESSIONS: DurableObjectNamespace<Called>;
    WORK?: Queue<string>;
    WEBHOOKS?: Queue<string>;
    RUNS?: Queue<string>;
    /** Stands in for the queues where there are none: serve/entry.mjs. */
    SELF?: Service<import("../serve/entry.mjs").Background>;
    /** Stands in for the cron trigger, there too. */
    SWEEPER?: DurableObjectNamespace<import("../serve/entry.mjs").Sweeper>;
    ADMIN_KEY?: string;
    DEMO?: string;
    TIME_SCALE?: string;
    ASSETS: Fetcher;
    USAGE?: AnalyticsEngineDataset;
  }

  /** Every object takes a message and gives its reply. */
  interface Called extends Rpc.DurableObjectBranded {
    call(message: string): Promise<string>;
  }
}

/** Breaks what an instance that died has promised: src/platform/tasks.js sets it, entry.mjs calls it. */
declare var __narthex_abandon: (error: Error) => void;

/** The commit that the Worker was built from, if known: entry.mjs sets it, src/platform/settings.js reads it. */
declare var __narthex_commit: string | null;

declare function addEventListener(type: "error", listener: (event: ErrorEvent) => void): void;

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
