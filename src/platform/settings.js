// @ts-check
// The Worker's bindings, secrets and commit, for `settings.rs` and `secret_box.rs`.
import { env } from "cloudflare:workers";

/** The Worker's bindings. */
export function environment() {
  return env;
}

/** The commit that the Worker was built from: 40 hexadecimal digits, if known. */
export function builtFrom() {
  return globalThis.__narthex_commit ?? undefined;
}

/** Service bindings that lead to no other Worker: the Worker's files, the Worker itself, and private networks. */
const OWN = ["ASSETS", "SELF", "PRIVATE"];

/** The service bindings to other Workers. @param {Record<string, unknown>} bound */
export function serviceBindings(bound) {
  const isService = (/** @type {unknown} */ value) => Object.prototype.toString.call(value) === "[object Fetcher]";
  return Object.keys(bound).filter((name) => !OWN.includes(name) && isService(bound[name]));
}

/** The Worker's secrets whose names begin with `prefix`: [name, value, …]. @param {string} prefix */
export function secretsNamed(prefix) {
  return Object.entries(env).flatMap(([name, value]) =>
    name.startsWith(prefix) && typeof value === "string" ? [name, value] : [],
  );
}
