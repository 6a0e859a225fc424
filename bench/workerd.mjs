// @ts-check
// Writes the folder in which workerd is started: its configuration, embedded modules and storage. Gateway and
// comparator get the same compatibility date and flags, storage on disk and network access.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { deployment } from "./deployment.mjs";

/**
 * @typedef {{ name: string, path: URL, kind: "esModule" | "wasm" }} Module the first is the entry
 * @typedef {{ modules: Module[], vars: Record<string, string>, objects: { name: string, class_name: string }[],
 *   queue: boolean, assets: boolean }} WorkerSpec
 */

export const here = (/** @type {string} */ path) => new URL(path, import.meta.url);

/** The module's name, as worker.mjs imports it. @type {Module} */
export const WASM = { name: "./index_bg.wasm", path: here("../build/index_bg.wasm"), kind: "wasm" };
/** @type {Module[]} */
export const GATEWAY_MODULES = [{ name: "worker.mjs", path: here("../build/worker.mjs"), kind: "esModule" }, WASM];

/**
 * The gateway as wrangler.toml deploys it.
 * @param {Record<string, string>} vars beyond wrangler.toml's @returns {WorkerSpec}
 */
export function gatewaySpec(vars) {
  const deployed = deployment();
  return {
    modules: GATEWAY_MODULES,
    vars: { ...deployed.vars, ...vars },
    objects: deployed.objects,
    queue: true,
    assets: true,
  };
}

/** @param {Record<string, string>} vars @returns {WorkerSpec} */
export const comparatorSpec = (vars) => ({
  modules: [
    { name: "worker.mjs", path: here("comparator/worker.mjs"), kind: "esModule" },
    { name: "models.mjs", path: here("comparator/models.mjs"), kind: "esModule" },
  ],
  vars,
  queue: false,
  assets: false,
  objects: [
    { name: "CONTEXTS", class_name: "ContextStore" },
    { name: "EVENTS", class_name: "EventHub" },
  ],
});

/** Cap'n Proto's text strings are written as JSON's. @param {string} value */
const text = (value) => JSON.stringify(value);

/** @param {string} folder @param {Module[]} modules copied, since `embed` reads beside the configuration */
function moduleList(folder, modules) {
  return modules
    .map(({ name, path, kind }) => {
      const file = name.replace("./", "");
      copyFileSync(path, `${folder}/${file}`);
      return `(name = ${text(name)}, ${kind} = embed ${text(file)})`;
    })
    .join(", ");
}

/**
 * @param {string} folder made here @param {WorkerSpec} spec
 * @returns {string[]} the names of the sockets it will listen at: `worker`, and `queue` for counting messages
 */
export function writeConfig(folder, spec) {
  mkdirSync(`${folder}/storage`, { recursive: true });
  const { compatibilityDate, compatibilityFlags, queues, consumers, assets } = deployment();
  const bindings = Object.entries(spec.vars).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`);
  for (const { name, class_name } of spec.objects) {
    bindings.push(`(name = ${text(name)}, durableObjectNamespace = ${text(class_name)})`);
  }
  const services = [
    // Without this, workerd refuses private addresses, and the service is on the loopback interface.
    `(name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true)))`,
    `(name = "storage", disk = (path = "storage", writable = true))`,
  ];
  const sockets = ["worker"];
  if (spec.assets && assets) {
    const modules = moduleList(folder, [{ name: "assets.mjs", path: here("stand-ins/assets.mjs"), kind: "esModule" }]);
    services.push(
      `(name = "assets", worker = (modules = [${modules}], compatibilityDate = ${text(compatibilityDate)}))`,
    );
    bindings.push(`(name = ${text(assets)}, service = "assets")`);
  }
  for (const [index, producer] of (spec.queue ? queues : []).entries()) {
    // The first queue is for contexts; its messages are counted.
    const name = index === 0 ? "queue" : producer.queue;
    const consumer = consumers.find((one) => one.queue === producer.queue);
    const modules = moduleList(folder, [{ name: "queue.mjs", path: here("stand-ins/queue.mjs"), kind: "esModule" }]);
    services.push(`(name = ${text(name)}, worker = (modules = [${modules}], compatibilityDate = ${text(compatibilityDate)},
      compatibilityFlags = ["service_binding_extra_handlers"], bindings = [
        (name = "CONSUMER", service = "worker"), (name = "QUEUE", text = ${text(producer.queue)}),
        (name = "BATCH", text = "${consumer?.max_batch_size ?? 10}"), (name = "RETRIES", text = "${consumer?.max_retries ?? 3}")]))`);
    bindings.push(`(name = ${text(producer.binding)}, queue = ${text(name)})`);
    if (index === 0) sockets.push(name);
  }
  const namespaces = spec.objects.map(
    ({ class_name }) => `(className = ${text(class_name)}, uniqueKey = ${text(class_name)}, enableSql = true)`,
  );
  services.push(`(name = "worker", worker = (
      modules = [${moduleList(folder, spec.modules)}],
      compatibilityDate = ${text(compatibilityDate)}, compatibilityFlags = ${JSON.stringify(compatibilityFlags)},
      bindings = [${bindings.join(", ")}],
      durableObjectNamespaces = [${namespaces.join(", ")}],
      durableObjectStorage = (localDisk = "storage")))`);
  const listening = sockets.map(
    (name) => `(name = "${name}", address = "127.0.0.1:0", http = (), service = "${name}")`,
  );
  writeFileSync(
    `${folder}/config.capnp`,
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    ${services.join(",\n    ")}
  ],
  sockets = [${listening.join(", ")}]
);
`,
  );
  return sockets;
}
