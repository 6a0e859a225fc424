// @ts-check
// The bill of materials of a release, in CycloneDX: what is in its archives, not what builds or tests it.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Enums, Models, Serialize, Spec } from "@cyclonedx/cyclonedx-library";
import { parse } from "smol-toml";
import { root } from "./tools.mjs";

/**
 * @typedef {{ id: string, name: string, version: string, license: string | null, source: string | null,
 *   description: string | null }} Package
 * @typedef {{ id: string, deps: { pkg: string, dep_kinds: { kind: string | null }[] }[] }} Node
 */

/** @param {string} program @param {string[]} args */
const output = (program, ...args) => execFileSync(program, args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 });

const target = "wasm32-unknown-unknown";

/**
 * What cargo links into the Wasm, as `name version`: without what only builds or tests need, and without macros, which
 * run in the compiler. The packages of `cargo metadata` are more, as they have the features that tests turn on.
 */
function linkedNames() {
  const edges = ["--package", "narthex", "--edges", "normal,no-proc-macro", "--target", target];
  const lines = output("cargo", "tree", "--locked", ...edges, "--prefix", "none", "--format", "{p}").split("\n");
  return new Set(
    lines.flatMap((line) => (line === "" ? [] : [line.split(" ").slice(0, 2).join(" ").replace(" v", " ")])),
  );
}

/** These packages, the gateway first, each with the ids of those it depends on. @returns {[Package, string[]][]} */
function linked() {
  const args = ["--locked", "--format-version", "1", "--filter-platform", target];
  /** @type {{ packages: Package[], resolve: { root: string, nodes: Node[] } }} */
  const { packages, resolve } = JSON.parse(output("cargo", "metadata", ...args));
  const names = linkedNames();
  const chosen = packages.filter(({ name, version }) => names.has(`${name} ${version}`));
  if (chosen.length !== names.size) throw new Error("cargo tree and cargo metadata name different packages");
  const ids = new Set(chosen.map(({ id }) => id));
  const used = new Map(
    resolve.nodes.map(({ id, deps }) => {
      const normal = deps.filter(({ pkg, dep_kinds }) => ids.has(pkg) && dep_kinds.some(({ kind }) => kind === null));
      return [id, normal.map(({ pkg }) => pkg)];
    }),
  );
  const isGateway = (/** @type {Package} */ { id }) => id === resolve.root;
  return chosen
    .sort((one, other) => Number(isGateway(other)) - Number(isGateway(one)))
    .map((one) => [one, used.get(one.id) ?? []]);
}

/** The digests of crates, by `name version`. @returns {Map<string, string>} */
function checksums() {
  const lock = parse(readFileSync(join(root, "Cargo.lock"), "utf8"));
  const packages = /** @type {{ name: string, version: string, checksum?: string }[]} */ (lock.package);
  return new Map(
    packages.flatMap(({ name, version, checksum }) => (checksum ? [[`${name} ${version}`, checksum]] : [])),
  );
}

/** @param {string | null | undefined} expression such as `MIT OR Apache-2.0`, or in the older form with a slash */
const licenses = (expression) =>
  new Models.LicenseRepository(
    expression ? [new Models.LicenseExpression(expression.replaceAll(/ *\/ */g, " OR "))] : [],
  );

/** @param {Package} crate @param {Map<string, string>} digests */
function crateComponent(crate, digests) {
  const digest = digests.get(`${crate.name} ${crate.version}`);
  const isDownloaded = crate.source !== null;
  const address = `pkg:cargo/${crate.name}@${crate.version}`;
  const component = new Models.Component(Enums.ComponentType.Library, crate.name, {
    // The project's own crates are not those that crates.io may have by the same name.
    bomRef: isDownloaded ? address : `crate:${crate.name}@${crate.version}`,
    version: crate.version,
    licenses: licenses(crate.license),
    ...(crate.description && { description: crate.description.trim().replaceAll(/\s+/g, " ") }),
    ...(isDownloaded && { purl: address }),
  });
  if (isDownloaded && digest) component.hashes.set(Enums.HashAlgorithm["SHA-256"], digest);
  return component;
}

/** Rust's standard library, which is linked too. */
function standardLibrary() {
  const version = output("rustc", "--version").split(" ")[1] ?? "";
  return new Models.Component(Enums.ComponentType.Library, "std", {
    bomRef: `rust:std@${version}`,
    version,
    description: "The standard library of Rust, with core and alloc",
    licenses: licenses("MIT OR Apache-2.0"),
    purl: `pkg:generic/rust-std@${version}`,
  });
}

/** The runtime of `narthex serve`, from package-lock.json. */
function workerd() {
  const name = "@cloudflare/workerd-linux-64";
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { version, license, integrity } = lock.packages[`node_modules/${name}`];
  const address = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const component = new Models.Component(Enums.ComponentType.Application, "workerd", {
    bomRef: address,
    version,
    description: `The runtime of Workers, of the package ${name}; the digest is the package's`,
    licenses: licenses(license),
    purl: address,
  });
  const [, digest] = /^sha512-(.+)$/.exec(integrity) ?? [];
  if (digest) component.hashes.set(Enums.HashAlgorithm["SHA-512"], Buffer.from(digest, "base64").toString("hex"));
  return component;
}

/** A UUID that is the same for the same release. @param {string} name */
function serialNumber(name) {
  const hex = createHash("sha256").update(name).digest("hex");
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  const groups = [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, variant + hex.slice(17, 20)];
  return `urn:uuid:${[...groups, hex.slice(20, 32)].join("-")}`;
}

/**
 * The bill of materials, as JSON.
 * @param {{ version: string, commit: string | null, time: number }} release `time` in seconds since 1970
 */
export function billOfMaterials({ version, commit, time }) {
  const digests = checksums();
  const crates = linked();
  const components = new Map(crates.map(([crate]) => [crate.id, crateComponent(crate, digests)]));
  for (const [{ id }, used] of crates)
    for (const one of used) {
      const component = components.get(one);
      if (component) components.get(id)?.dependencies.add(component.bomRef);
    }
  const [std, runtime] = [standardLibrary(), workerd()];
  const [gateway] = components.values();
  gateway?.dependencies.add(std.bomRef);
  const bom = new Models.Bom({ serialNumber: serialNumber(`narthex ${version} ${commit ?? time}`) });
  bom.metadata.timestamp = new Date(time * 1000);
  const product = new Models.Component(Enums.ComponentType.Application, "narthex", {
    bomRef: `narthex@${version}`,
    version,
    licenses: licenses("MIT OR Apache-2.0"),
  });
  if (commit !== null) product.properties.add(new Models.Property("narthex:commit", commit));
  if (gateway) product.dependencies.add(gateway.bomRef);
  product.dependencies.add(runtime.bomRef);
  bom.metadata.component = product;
  for (const component of [...components.values(), std, runtime]) bom.components.add(component);
  const factory = new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6);
  return `${new Serialize.JsonSerializer(factory).serialize(bom, { sortLists: true, space: 2 })}\n`;
}
