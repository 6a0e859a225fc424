// @ts-check
// A cold start with only the gateway's Wasm: compiled and instantiated with empty imports, and never called. Its
// start minus that of the blank Worker is the cost of the Wasm itself.
import program from "./index_bg.wasm";

/** @type {Record<string, Record<string, any>>} */
const imports = {};
for (const { module, name, kind } of WebAssembly.Module.imports(program)) {
  const provided = {
    function: () => () => undefined,
    memory: () => new WebAssembly.Memory({ initial: 256 }),
    table: () => new WebAssembly.Table({ initial: 1024, element: "externref" }),
    global: () => new WebAssembly.Global({ value: "i32", mutable: true }, 0),
    tag: () => new /** @type {any} */ (WebAssembly).Tag({ parameters: ["externref"] }),
  }[/** @type {string} */ (kind)];
  (imports[module] ??= {})[name] = provided?.();
}
// A global, so that the instance is not collected before the first response.
Object.assign(globalThis, { kept: new WebAssembly.Instance(program, imports) });

export default {
  fetch() {
    return new Response("{}");
  },
};
