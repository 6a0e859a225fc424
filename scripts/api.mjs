// @ts-check
// `npm run api`: bundles the pieces of the contract in api/ into console/openapi.json and console/asyncapi.json.
// `-- --check` writes nothing and fails when one of them differs.
//
// References are those of the bundled documents (`#/components/schemas/Context`), so a piece may move between files.
// Both documents include the schemas that they refer to, from one pool. The source differs from the documents in three
// ways: a response may list its `headers` by their names in headers.yaml and header-sets.yaml, the lines of a
// description are joined to paragraphs, and `info.version` is that of package.json.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { LineCounter, parseDocument, visit } from "yaml";

const root = fileURLToPath(new URL("..", import.meta.url));

/** @typedef {any} Json */
/** @typedef {{ value: Json, place: string }} Piece a named part, with the file and line where it stands */
/** @typedef {Map<string, Piece>} Pool */

/** Where the pieces of each kind are: a file, or a folder of files. */
const KINDS = {
  paths: "paths",
  webhooks: "webhooks.yaml",
  schemas: "schemas",
  responses: "responses",
  parameters: "parameters.yaml",
  headers: "headers.yaml",
  headerSets: "header-sets.yaml",
  channels: "events/channels.yaml",
  operations: "events/operations.yaml",
  messages: "events/messages.yaml",
};
const HEADS = ["openapi.yaml", "asyncapi.yaml"];
const METHODS = ["get", "put", "post", "delete", "patch"];

/** The faults of a source, one a line, each with its file and line. */
export class SourceFaults extends Error {
  /** @param {string[]} faults */
  constructor(faults) {
    super(faults.join("\n"));
    this.faults = faults;
  }
}

/** Reads the files of a source and remembers where everything stands. */
class Source {
  /** @type {string[]} */
  faults = [];
  /** Where each reference stands first. @type {Map<string, string>} */
  references = new Map();

  /** @param {string} folder */
  constructor(folder) {
    this.folder = folder;
  }

  /** The YAML files at `path`, a file or a folder, by their paths within the source. @param {string} path */
  files(path) {
    if (path.endsWith(".yaml")) return [path];
    const names = readdirSync(join(this.folder, path)).sort();
    return names.map((name) => `${path}/${name}`);
  }

  /** Reports files that belong to no kind: nothing would read them. */
  checkFiles() {
    const known = new Set([...HEADS, ...Object.values(KINDS).flatMap((path) => this.files(path))]);
    const all = readdirSync(this.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    for (const { parentPath, name } of all) {
      const file = relative(this.folder, join(parentPath, name));
      if (!known.has(file) || !file.endsWith(".yaml")) this.faults.push(`api/${file}: not a part of the contract`);
    }
  }

  /** The members of a file as pieces. @param {string} file @returns {[string, Piece][]} */
  read(file) {
    const lines = new LineCounter();
    const document = parseDocument(readFileSync(join(this.folder, file), "utf8"), { lineCounter: lines });
    const place = (/** @type {Json} */ node) => `api/${file}:${lines.linePos(node.range[0]).line}`;
    for (const { message, pos } of document.errors) {
      this.faults.push(`api/${file}:${lines.linePos(pos[0]).line}: ${message.split("\n")[0]}`);
    }
    if (document.errors.length > 0) return [];
    visit(document, {
      Scalar: (key, node) => {
        const { value } = node;
        if (key === "key" || typeof value !== "string" || !value.startsWith("#/")) return;
        if (!this.references.has(value)) this.references.set(value, place(node));
      },
    });
    const items = /** @type {Json} */ (document.contents)?.items ?? [];
    return items.map((/** @type {Json} */ { key, value }) => [
      key.value,
      { value: value.toJS(document), place: place(key) },
    ]);
  }

  /** All pieces of a kind. @param {string} path @returns {Pool} */
  pool(path) {
    const pool = new Map();
    for (const [name, piece] of this.files(path).flatMap((file) => this.read(file))) {
      const twin = pool.get(name);
      if (twin) this.faults.push(`${piece.place}: ${name} is already defined at ${twin.place}`);
      else pool.set(name, piece);
    }
    return pool;
  }

  /** The head of a document. @param {string} file @returns {Json} */
  head(file) {
    return Object.fromEntries(this.read(file).map(([name, { value }]) => [name, value]));
  }
}

/** Joins the lines of each paragraph and of each item of a list. @param {string} text */
export const paragraphs = (text) => text.trim().replace(/(?<!\n)\n *(?!\n|(?:[*-]|\d+\.) )/g, " ");

/** Every description below `value`, examples left out, in paragraphs. @param {Json} value @returns {Json} */
function withParagraphs(value) {
  if (Array.isArray(value)) return value.map(withParagraphs);
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).map(([key, inner]) => {
    if (key === "example" || key === "examples") return [key, inner];
    if ((key === "description" || key === "summary") && typeof inner === "string") return [key, paragraphs(inner)];
    return [key, withParagraphs(inner)];
  });
  return Object.fromEntries(members);
}

/**
 * Every reference below a value: of `$ref`, and of a discriminator's `mapping`.
 * @param {Json} value
 * @returns {string[]}
 */
function referencesIn(value) {
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    if (key === "$ref" && typeof inner === "string") return [inner];
    if (key === "discriminator") return Object.values(inner.mapping ?? {});
    return referencesIn(inner);
  });
}

class Bundler {
  /** @param {string} folder */
  constructor(folder) {
    this.source = new Source(folder);
    this.source.checkFiles();
    const pools = Object.entries(KINDS).map(([kind, path]) => [kind, this.source.pool(path)]);
    /** @type {Record<keyof typeof KINDS, Pool>} */
    this.pools = Object.fromEntries(pools);
    this.heads = HEADS.map((file) => this.source.head(file));
    /** Components that a document reaches. */
    this.used = new Set();
  }

  get faults() {
    return this.source.faults;
  }

  /** A response with its list of headers as OpenAPI has it. @param {Json} response @param {string} place */
  withHeaders(response, place) {
    if (!Array.isArray(response.headers)) return response;
    const { headers, headerSets } = this.pools;
    const names = response.headers.flatMap((/** @type {string} */ name) => headerSets.get(name)?.value ?? [name]);
    const members = names.flatMap((/** @type {string} */ name) => {
      const header = headers.get(name)?.value.name;
      if (!header) this.faults.push(`${place}: header ${name} is missing in api/headers.yaml`);
      return header ? [[header, { $ref: `#/components/headers/${name}` }]] : [];
    });
    const expanded = Object.fromEntries(members);
    if (Object.keys(expanded).length < members.length) this.faults.push(`${place}: one header is listed twice`);
    return { ...response, headers: expanded };
  }

  /** Paths or webhooks with the headers of their responses. @param {Pool} pool */
  operations(pool) {
    const items = [...pool].map(([name, { value, place }]) => {
      const item = Object.entries(value).map(([method, operation]) => {
        if (!METHODS.includes(method)) return [method, operation];
        const responses = Object.entries(operation.responses ?? {}).map(([status, response]) => [
          status,
          this.withHeaders(response, `${place} ${method} ${status}`),
        ]);
        return [method, { ...operation, responses: Object.fromEntries(responses) }];
      });
      return [name, Object.fromEntries(item)];
    });
    return Object.fromEntries(items);
  }

  /** Reports responses and parameters that are written out twice. @param {Json} paths */
  checkTwins(paths) {
    const seen = new Map();
    for (const [path, item] of Object.entries(paths)) {
      for (const [method, { responses, parameters }] of Object.entries(item)) {
        const here = `${method.toUpperCase()} ${path}`;
        const named = (parameters ?? []).map((/** @type {Json} */ one) => [one.name, one]);
        for (const [name, value] of [...Object.entries(responses ?? {}), ...named]) {
          const text = JSON.stringify(value);
          if (value.$ref) continue;
          const twin = seen.get(text);
          const { place } = /** @type {Piece} */ (this.pools.paths.get(path));
          if (twin) this.faults.push(`${place}: ${name} of ${here} equals that of ${twin}: share it as a component`);
          else seen.set(text, here);
        }
      }
    }
  }

  /** A component as the documents have it. @param {string} kind @param {Piece} piece */
  component(kind, { value, place }) {
    if (kind === "responses") return this.withHeaders(value, place);
    if (kind !== "headers") return value;
    const { name: _, ...header } = value;
    return header;
  }

  /**
   * The components that `document` refers to, directly or indirectly, in the order of the files.
   * @param {Json} document @param {(keyof typeof KINDS)[]} kinds
   */
  components(document, kinds) {
    const reached = new Map();
    const open = referencesIn(document);
    while (open.length > 0) {
      const reference = /** @type {string} */ (open.pop());
      const [, kind = "", name = ""] = /^#\/components\/(\w+)\/([^/]+)$/.exec(reference) ?? [];
      const piece = kinds.includes(/** @type {any} */ (kind)) && this.pools[/** @type {"schemas"} */ (kind)].get(name);
      if (!piece || reached.has(reference)) continue;
      reached.set(reference, this.component(kind, piece));
      open.push(...referencesIn(reached.get(reference)));
    }
    for (const reference of reached.keys()) this.used.add(reference);
    const groups = kinds.map((kind) => {
      const names = [...this.pools[kind].keys()].filter((name) => reached.has(`#/components/${kind}/${name}`));
      return [kind, Object.fromEntries(names.map((name) => [name, reached.get(`#/components/${kind}/${name}`)]))];
    });
    return { ...document.components, ...Object.fromEntries(groups) };
  }

  /** Reports unresolved references within `document`. @param {Json} document */
  checkReferences(document) {
    for (const reference of new Set(referencesIn(document))) {
      const parts = reference.slice(2).split("/");
      const names = parts.map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
      if (names.reduce((at, name) => at?.[name], document) !== undefined) continue;
      const place = this.source.references.get(reference) ?? "api";
      this.faults.push(`${place}: ${reference} does not exist`);
    }
  }

  /** Reports components that neither document reaches. */
  checkUse() {
    for (const kind of /** @type {const} */ (["schemas", "responses", "parameters", "headers", "messages"])) {
      for (const [name, { place }] of this.pools[kind]) {
        if (!this.used.has(`#/components/${kind}/${name}`)) this.faults.push(`${place}: nothing refers to ${name}`);
      }
    }
  }

  /** @param {string} version @returns {{ openapi: Json, asyncapi: Json }} */
  bundle(version) {
    const values = (/** @type {Pool} */ pool) =>
      Object.fromEntries([...pool].map(([name, { value }]) => [name, value]));
    const { channels, operations, paths, webhooks } = this.pools;
    const [rest, events] = this.heads.map(({ components, ...head }) => ({
      ...head,
      info: { title: head.info?.title, version, ...head.info },
      components,
    }));
    const named = { paths: this.operations(paths), webhooks: this.operations(webhooks) };
    this.checkTwins(named.paths);
    const openapi = finished(rest, named, (document) =>
      this.components(document, ["schemas", "responses", "parameters", "headers"]),
    );
    const asyncapi = finished(events, { channels: values(channels), operations: values(operations) }, (document) =>
      this.components(document, ["messages", "schemas"]),
    );
    this.checkReferences(openapi);
    this.checkReferences(asyncapi);
    this.checkUse();
    return { openapi, asyncapi };
  }
}

/**
 * A document in its usual order: head, operations, components.
 * @param {Json} head @param {Json} named @param {(document: Json) => Json} components
 */
function finished({ components: own, ...head }, named, components) {
  const document = { ...head, ...named, components: own };
  return withParagraphs({ ...document, components: components(document) });
}

/**
 * JSON with a line per operation and component.
 * @param {Json} value @param {number} depth @param {string} indent @returns {string}
 */
function written(value, depth = 3, indent = "") {
  if (depth === 0 || value === null || typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([key, inner]) => `${indent} ${JSON.stringify(key)}:${written(inner, depth - 1, `${indent} `)}`,
  );
  return `{\n${members.join(",\n")}\n${indent}}`;
}

/**
 * The texts of both documents, by their paths; throws `SourceFaults` when the source has any.
 * @param {string} folder @returns {Map<string, string>}
 */
export function bundle(folder = join(root, "api")) {
  const bundler = new Bundler(folder);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  if (bundler.faults.length > 0) throw new SourceFaults(bundler.faults);
  const { openapi, asyncapi } = bundler.bundle(version);
  if (bundler.faults.length > 0) throw new SourceFaults(bundler.faults);
  return new Map([
    ["console/openapi.json", `${written(openapi)}\n`],
    ["console/asyncapi.json", `${written(asyncapi)}\n`],
  ]);
}

/** The paths of the documents that differ from their source. */
export function outdated(texts = bundle()) {
  const current = (/** @type {string} */ path) => existsSync(path) && readFileSync(path, "utf8");
  const differs = (/** @type {[string, string]} */ [path, text]) => current(join(root, path)) !== text;
  return [...texts].filter(differs).map(([path]) => path);
}

/** @param {boolean} isCheck @returns {number} the exit code */
export function run(isCheck) {
  try {
    const texts = bundle();
    const stale = outdated(texts);
    for (const path of stale) {
      if (!isCheck) writeFileSync(join(root, path), /** @type {string} */ (texts.get(path)));
      console.log(isCheck ? `${path} differs from api/: run \`npm run api\`` : `wrote ${path}`);
    }
    return isCheck && stale.length > 0 ? 1 : 0;
  } catch (error) {
    if (!(error instanceof SourceFaults)) throw error;
    console.error(error.message);
    return 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = run(process.argv.includes("--check"));
