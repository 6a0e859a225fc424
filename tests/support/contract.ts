// Checks the gateway's responses and events against its own contract, and records its coverage.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020, type AnySchema, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { root } from "./configuration.ts";

type Json = any;

const folder = join(root, "console");
const methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/** A response or event that does not match the contract. */
export class ContractViolation extends Error {}

/** Parameters that are the rest of the path: names of models have slashes. */
const rests = ["/v1/models/{name}", "/v1/model-routes/{name}"];

/** The first segments of paths that clients of models know, as in crates/core/src/models/endpoint.rs. */
const ofModels = [
  ...["chat", "responses", "embeddings", "models", "messages", "complete", "completions", "images", "audio"],
  ...["moderations", "rerank", "files", "batches", "fine_tuning", "uploads", "vector_stores", "assistants"],
];
const withoutVersion = [
  ...["/chat/completions", "/responses", "/embeddings", "/messages", "/messages/count_tokens", "/completions"],
  "/models",
];

/** Whose format the refusals below a path have; undefined where they are problem details. */
export function formatOf(path: string, hasAnthropicVersion = false): "OpenAI" | "Anthropic" | undefined {
  const rest = withoutVersion.includes(path) ? path.slice(1) : /^\/v1\/(?:v1\/)?(.*)$/s.exec(path)?.[1];
  const first = rest?.split("/", 1)[0] ?? "";
  if (first === "messages" || first === "complete" || (first === "models" && hasAnthropicVersion)) return "Anthropic";
  return ofModels.includes(first) ? "OpenAI" : undefined;
}

/** One path template of the contract, e.g. `/v1/contexts/{id}`. */
type Path = { template: string; pattern: RegExp; parameters: number };

export class Contract {
  static #loaded: Contract | undefined;

  readonly #openapi: Json;
  readonly #asyncapi: Json;
  readonly #paths: Path[];
  readonly #checks = new Map<string, ValidateFunction>();
  readonly #strict = validator(false);
  // Header values are strings: the schema of an integer applies to the parsed value.
  readonly #lenient = validator(true);
  /** `METHOD template status` of every response that this process checked, as spelled in the contract. */
  readonly seen = new Set<string>();

  constructor(openapi: Json, asyncapi?: Json) {
    this.#openapi = openapi;
    this.#asyncapi = asyncapi;
    for (const ajv of [this.#strict, this.#lenient]) {
      ajv.addSchema(openapi, "openapi.json");
      if (asyncapi) ajv.addSchema(asyncapi, "asyncapi.json");
    }
    this.#paths = Object.keys(openapi.paths ?? {})
      .map((template) => ({
        template,
        pattern: patternOf(template),
        parameters: template.split("{").length - 1,
      }))
      .sort((a, b) => a.parameters - b.parameters);
  }

  /** The contract in `console`, read once; undefined if there is none. */
  static load(): Contract | undefined {
    const read = (name: string) => JSON.parse(readFileSync(join(folder, name), "utf8"));
    if (!Contract.#loaded && existsSync(join(folder, "openapi.json"))) {
      const withEvents = existsSync(join(folder, "asyncapi.json"));
      Contract.#loaded = new Contract(read("openapi.json"), withEvents ? read("asyncapi.json") : undefined);
    }
    return Contract.#loaded;
  }

  /**
   * Throws a `ContractViolation` unless the contract has this response: its status, its required headers, its media
   * type and a body its schema accepts. Unknown operations must be refused with a 4xx problem, or below the paths of
   * models with an error in their formats.
   */
  checkAnswer(method: string, path: string, status: number, headers: Headers, body: string): void {
    if (headers.get("content-type") === "application/problem+json" && body !== "") {
      this.#remember(`PROBLEM ${(json(`${method} ${path}`, body) as Json).code}`);
    }
    const plainPath = path.split(/[?#]/, 1)[0] ?? path;
    const matching = this.#paths.find(({ pattern }) => pattern.test(plainPath));
    // A path of models without its version is no name of a file.
    const found = matching?.template === "/{file}" && formatOf(plainPath) ? undefined : matching;
    const item = found && this.#resolve(this.#openapi.paths[found.template]);
    const lower = method.toLowerCase();
    const operation = item?.[lower] ?? (lower === "head" ? item?.get : undefined);
    const label = `${method} ${path} answered ${status}`;
    if (!found || !operation) {
      if (lower === "options" && status < 300) return;
      if (status < 400 || status >= 500)
        throw new ContractViolation(`${label}, but the contract has no such operation`);
      if (body !== "") this.#checkRefusal(label, plainPath, headers, json(label, body));
      return;
    }
    const at = pointer("paths", found.template, operation === item[lower] ? lower : "get", "responses");
    const responses = operation.responses ?? {};
    const name = [String(status), `${Math.floor(status / 100)}XX`, "default"].find((key) => key in responses);
    if (!name) throw new ContractViolation(`${label}; the contract has only ${Object.keys(responses).join(", ")}`);
    this.#remember(`${method.toUpperCase()} ${found.template} ${status}`);

    const [response, where] = this.#follow(responses[name], `${at}/${escape(name)}`);
    for (const [header, described] of Object.entries<Json>(response.headers ?? {})) {
      const [{ required, schema }, place] = this.#follow(described, `${where}/headers/${escape(header)}`);
      const value = headers.get(header);
      if (value === null && required) throw new ContractViolation(`${label} without the header ${header}`);
      if (value !== null && schema) {
        this.#check(`${label}: header ${header}: ${value}`, `openapi.json#${place}/schema`, value, this.#lenient);
      }
    }
    if (lower === "head") return;
    if (!response.content) {
      if (body !== "") throw new ContractViolation(`${label} with a body, but the contract has none: ${clip(body)}`);
      return;
    }
    const type = headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "no content type";
    const media = response.content[type];
    if (!media) {
      const only = Object.keys(response.content).join(", ");
      throw new ContractViolation(`${label} as ${type}; the contract has ${only}: ${clip(body)}`);
    }
    if (media.schema && (type === "application/json" || type.endsWith("+json"))) {
      this.#check(label, `openapi.json#${where}/content/${escape(type)}/schema`, json(label, body));
    }
  }

  /** Throws a `ContractViolation` unless asyncapi.json has a message for this event. */
  checkEvent(event: Json): void {
    if (!this.#asyncapi) return;
    const label = `event ${event?.type} ${event?.sequence ?? ""}`;
    const all = Object.entries<Json>(this.#asyncapi.components?.messages ?? {}).map(([key, message]) => ({
      names: [key, message.name],
      schema: `asyncapi.json#${pointer("components", "messages", key, "payload")}${message.payload?.schema ? "/schema" : ""}`,
    }));
    const named = all.filter(({ names }) => names.includes(event?.type));
    let first: unknown;
    for (const { schema } of named.length > 0 ? named : all) {
      try {
        this.#check(label, schema, event);
        this.#remember(`EVENT ${event.type}`);
        return;
      } catch (error) {
        first ??= error;
      }
    }
    throw first ?? new ContractViolation(`${label} is not in the contract`);
  }

  /** Throws a `ContractViolation` unless asyncapi.json has this message, e.g. of a service's `connection`. */
  checkMessage(whose: string, message: Json): void {
    const key = `${whose}-${message?.type}`;
    if (!this.#asyncapi?.components.messages[key])
      throw new ContractViolation(`the message ${key} is not in the contract`);
    this.#check(`message ${key}`, `asyncapi.json#${pointer("components", "messages", key, "payload")}`, message);
  }

  /** Every response of the contract, spelled as in `seen`; ranges and defaults are left out. */
  documented(): string[] {
    return Object.entries<Json>(this.#openapi.paths ?? {}).flatMap(([template, item]) =>
      Object.entries<Json>(this.#resolve(item))
        .filter(([method]) => methods.includes(method))
        .flatMap(([method, operation]) =>
          Object.keys(operation.responses ?? {})
            .filter((status) => /^\d{3}$/.test(status))
            .map((status) => `${method.toUpperCase()} ${template} ${status}`),
        ),
    );
  }

  /** Throws a `ContractViolation` unless this is a refusal in the format of its path. */
  #checkRefusal(label: string, path: string, headers: Headers, body: Json): void {
    // Lists of models are in either format; the request's headers say which.
    const format = formatOf(path, body?.type === "error");
    const name = format ? (format === "OpenAI" ? "OpenAiError" : "AnthropicError") : "Problem";
    if (!this.#openapi.components?.schemas?.[name]) return;
    const type = headers.get("content-type");
    const expected = format ? "application/json" : "application/problem+json";
    if (type !== expected) throw new ContractViolation(`${label} as ${type}, not as ${expected}`);
    this.#check(label, `openapi.json#/components/schemas/${name}`, body);
  }

  #remember(what: string): void {
    if (this.seen.has(what)) return;
    this.seen.add(what);
    // Each test file is a process: `npm test` gives all of them one file to write to.
    if (process.env.CONTRACT_SEEN) appendFileSync(process.env.CONTRACT_SEEN, `${what}\n`);
  }

  #check(label: string, schema: string, value: unknown, ajv = this.#strict): void {
    const name = `${ajv === this.#strict} ${schema}`;
    let check = this.#checks.get(name);
    if (!check) {
      // Coercion changes a value in place, so it must be a member of an object.
      const wrapped: AnySchema = { type: "object", properties: { value: { $ref: schema } } };
      check = ajv.compile(wrapped);
      this.#checks.set(name, check);
    }
    if (check({ value })) return;
    const faults = (check.errors ?? []).slice(0, 8).map(({ instancePath, message, params }) => {
      return `  ${instancePath.replace(/^\/value/, "") || "/"} ${message} ${JSON.stringify(params)}`;
    });
    throw new ContractViolation(
      `${label}, not as ${schema} says:\n${faults.join("\n")}\n  ${clip(JSON.stringify(value))}`,
    );
  }

  /** An object and its JSON pointer, with its `$ref` within openapi.json resolved. */
  #follow(value: Json, place: string): [Json, string] {
    if (typeof value?.$ref !== "string") return [value, place];
    const target = value.$ref.replace(/^#/, "");
    const found = target
      .split("/")
      .slice(1)
      .reduce((at: Json, part: string) => at?.[unescape(part)], this.#openapi);
    if (found === undefined) throw new Error(`openapi.json refers to ${value.$ref}, which does not exist`);
    return this.#follow(found, target);
  }

  #resolve(value: Json): Json {
    return this.#follow(value, "")[0];
  }
}

/** The coverage of all processes of this `npm test`, or of this process alone outside of it. */
export function seenInThisRun(): Set<string> {
  const file = process.env.CONTRACT_SEEN;
  if (!file || !existsSync(file)) return new Set(Contract.load()?.seen);
  return new Set(readFileSync(file, "utf8").split("\n").filter(Boolean));
}

function patternOf(template: string): RegExp {
  const parameter = rests.includes(template) ? ".+" : "[^/]+";
  return new RegExp(`^${template.replace(/[.+*?^$()|[\]\\]/g, "\\$&").replace(/\{[^}]+\}/g, parameter)}$`);
}

function validator(coerceTypes: boolean): Ajv2020 {
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateSchema: false, coerceTypes });
  addFormats.default(ajv);
  return ajv;
}

function json(label: string, body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new ContractViolation(`${label} with a body that is not JSON: ${clip(body)}`);
  }
}

const escape = (part: string) => part.replaceAll("~", "~0").replaceAll("/", "~1");
const unescape = (part: string) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
// In a `$ref` a pointer is a URI fragment; braces of path templates are percent-encoded there.
const pointer = (...parts: string[]) => parts.map((part) => `/${encodeURI(escape(part))}`).join("");
const clip = (text: string) => (text.length > 600 ? `${text.slice(0, 600)} …` : text);
