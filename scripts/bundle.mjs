// @ts-check
// Bundles an entry of the Worker with what wasm-bindgen has made, beside `index_bg.wasm`.
import { join } from "node:path";
import { root } from "./tools.mjs";

/**
 * @param {string} entry in the project's folder
 * @param {string} outfile
 */
export async function bundle(entry, outfile) {
  const esbuild = await import("esbuild");
  await esbuild.build({
    // The bundle ignores TypeScript's configuration, in particular one in a parent folder.
    tsconfigRaw: "{}",
    // Its comments name the files, from here.
    absWorkingDir: root,
    entryPoints: [join(root, entry)],
    outfile,
    bundle: true,
    format: "esm",
    target: "es2024",
    external: ["cloudflare:*"],
    logLevel: "warning",
    plugins: [
      {
        name: "wasm",
        setup(build) {
          build.onResolve({ filter: /\.wasm$/ }, () => ({ path: "./index_bg.wasm", external: true }));
        },
      },
    ],
  });
}
