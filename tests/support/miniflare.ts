// miniflare, made quick to start. For each start it writes workerd's whole configuration, with the gateway's megabytes
// of Wasm, into a buffer that it copies anew for every 4 KiB of growth: most of what a start costs. Here the buffer
// grows by 16 MiB instead, of which only what is used is sent.
import { createRequire, registerHooks } from "node:module";
import type * as Exports from "miniflare";

export type { MiniflareOptions } from "miniflare";

const GROWTH = "MIN_SINGLE_SEGMENT_GROWTH = 4096;";
const require = createRequire(import.meta.url);
const path = require.resolve("miniflare");

const hooks = registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.endsWith("/miniflare/dist/src/index.js") || !loaded.source) return loaded;
    const source = loaded.source.toString();
    if (!source.includes(GROWTH)) console.error(`${path} has no ${GROWTH} Every gateway of the tests starts slowly.`);
    return { ...loaded, source: source.replace(GROWTH, "MIN_SINGLE_SEGMENT_GROWTH = 1 << 24;") };
  },
});
// Only what runs very often is optimised: compiling in the background costs a gateway more than most tests gain by it.
process.env.MINIFLARE_WORKERD_V8_FLAGS ??= "--wasm-tiering-budget=1000000000";
const miniflare: typeof Exports = require(path);
hooks.deregister();

export const { Log, LogLevel, Miniflare } = miniflare;
export type Miniflare = Exports.Miniflare;
