// The kinds of documents on the screens Access and Models: the summary in a row, and the fields of the form.
import { get } from "./api.js";
import { oneLine } from "./format.js";
import { ROUTE_FIELD } from "./kept-content.js";
import { modelHash, targetsText } from "./model-catalogue.js";
import { linesOf, TARGETS_FIELD, targetsOf } from "./targets.js";

/** @typedef {"keys" | "roles" | "limits" | "issuers" | "clients" | "grants" | "model-routes"} KindName */

/**
 * @typedef {object} Kind
 * @property {string} noun
 * @property {string} [schema] of the contract, for the form; without one, documents are not written here
 * @property {string} about
 * @property {(document: any) => string} summary
 * @property {string} [area] of the permissions, if it is not the path
 * @property {(document: any) => string} [hash] the address of a document's own page
 */

/** By path. @type {Record<KindName, Kind>} */
export const KINDS = {
  keys: {
    noun: "key",
    schema: "NewKey",
    about: "Give each program and each person their own key.",
    summary: ({ role, permissions, last_four }) => [role, ...permissions, `…${last_four}`].join(" · "),
  },
  roles: {
    noun: "role",
    schema: "NewRole",
    about: "Named sets of permissions.",
    summary: ({ permissions }) => permissions.join(", ") || "no permissions",
  },
  limits: {
    noun: "limit",
    schema: "NewRateLimit",
    about: "Quotas on requests and concurrency.",
    summary: ({ kind, quota, window_seconds, binds }) => {
      const window = window_seconds ? ` in ${window_seconds} s` : "";
      return `${quota} ${kind}${window} · ${oneLine(binds)}`;
    },
  },
  issuers: {
    noun: "issuer",
    schema: "NewIssuer",
    about: "Identity providers whose tokens are accepted.",
    summary: ({ issuer }) => issuer,
  },
  clients: {
    noun: "client",
    schema: "NewClient",
    about: "Programs and apps that get tokens from this gateway.",
    summary: ({ client_id, scope }) => `${client_id} · ${scope}`,
  },
  grants: {
    noun: "grant",
    about: "What people have allowed apps to do.",
    summary: ({ principal, scope, resource }) => [principal, scope, resource].join(" · "),
  },
  "model-routes": {
    noun: "route",
    schema: "NewModelRoute",
    area: "models",
    about: "Names of your own for one or several models, for fallbacks and for a share of the load.",
    summary: ({ name, targets, content, description }) =>
      [targetsText({ name, isRoute: true, targets }), content === "full" && "content kept", description]
        .filter(Boolean)
        .join(" · "),
    hash: ({ name }) => modelHash(name),
  },
};

/** The kinds on the screen Access. @type {KindName[]} */
export const ACCESS_KINDS = ["keys", "roles", "limits", "issuers", "clients", "grants"];

/** Shown where permissions are entered, one per line. */
const EXAMPLE_PERMISSIONS = "contexts:create:*\nmodels:use:gpt-*\nmodels:read";

/** The member of the form that becomes part of the path, and not of the document. */
export const NAME_MEMBER = "path_name";

/** What a limit may bind, by its name in the API. */
const LIMIT_BINDS = {
  tenant: "the whole tenant",
  role: "a role",
  key: "a key",
  service: "a service",
  capability: "a capability",
};

/**
 * A schema of the contract, with its references resolved.
 * @param {string} name
 * @returns {Promise<JsonSchema>}
 */
async function contractSchema(name) {
  const { components } = await get("/openapi.json");
  /** @param {JsonSchema} schema */
  const withoutReferences = (schema) => JSON.parse(JSON.stringify(schema), resolve);
  /**
   * @param {string} _key
   * @param {any} part
   * @returns {any}
   */
  function resolve(_key, part) {
    if (part?.$ref) return withoutReferences(components.schemas[part.$ref.split("/").pop()]);
    return part?.allOf?.length === 1 ? { ...part.allOf[0], ...part } : part;
  }
  return withoutReferences(components.schemas[name]);
}

/**
 * `jwks_url` as a label: `JWKS URL`.
 * @param {string} member
 * @returns {string}
 */
function labelOf(member) {
  const label = member
    .replaceAll("_", " ")
    .replace(/\b(jwks|ur[il])(s?)\b/g, (_, acronym, plural) => acronym.toUpperCase() + plural);
  return label.charAt(0).toUpperCase() + label.slice(1);
}

/**
 * The schema of the form that creates or edits a document.
 * @param {KindName} kind
 * @param {any} [document]
 * @returns {Promise<JsonSchema>}
 */
export async function formSchema(kind, document) {
  const { properties, required = [] } = await contractSchema(KINDS[kind].schema ?? "");
  for (const [member, part] of Object.entries(properties)) {
    if (part.readOnly) delete properties[member];
    // The contract keeps defaults of optional members in `x-default`, as generators misread `default` there.
    Object.assign(part, { title: labelOf(member), default: part.default ?? part["x-default"] });
  }
  if (kind === "keys") properties.role = await roleField({ default: "caller" });
  if (kind === "issuers") {
    properties.role = await roleField({ description: properties.role.description, noneLabel: "none" });
  }
  if (kind === "limits") useLimitFields(properties);
  if (kind === "model-routes") Object.assign(properties, { targets: TARGETS_FIELD, content: ROUTE_FIELD });
  if (properties.permissions) properties.permissions.examples = [EXAMPLE_PERMISSIONS];
  // Keys get their ids from the gateway.
  const isNamedHere = !document && kind !== "keys";
  return {
    properties: { ...(isNamedHere && { [NAME_MEMBER]: nameField(kind) }), ...properties },
    required: [NAME_MEMBER, ...required],
  };
}

/**
 * @param {KindName} kind
 * @returns {JsonSchema}
 */
const nameField = (kind) => ({
  title: kind === "clients" ? "ID" : "Name",
  type: "string",
  description:
    kind === "model-routes" ? "Any characters but blanks and commas." : "Lowercase letters, digits, - and _.",
  ...(kind === "model-routes" && { examples: ["team/fast"] }),
});

/**
 * A role to choose, or to type if the key may not read roles.
 * @param {JsonSchema} more
 * @returns {Promise<JsonSchema>}
 */
async function roleField(more) {
  const field = { title: "Role", ...more };
  try {
    /** @type {Page<{ name: string }>} */
    const { data } = await get("/v1/roles");
    return { enum: data.map(({ name }) => name), ...field };
  } catch {
    return { type: "string", ...field };
  }
}

/**
 * Replaces `binds`, an object with one member, by two fields.
 * @param {Record<string, JsonSchema>} properties
 * @returns {void}
 */
function useLimitFields(properties) {
  properties.kind.default = "requests";
  // Deleting first moves the two fields to the end.
  delete properties.binds;
  properties.binds = {
    title: "Binds",
    description: "What the limit applies to.",
    enum: Object.keys(LIMIT_BINDS),
    titles: Object.values(LIMIT_BINDS),
  };
  properties.bound = {
    title: "Which one",
    type: "string",
    description: "Its ID or name, or * to limit each one separately. Leave it empty for the whole tenant.",
    examples: ["caller"],
  };
}

/**
 * The form field behind a path in the document.
 * @param {KindName} kind
 * @param {string[]} path
 * @returns {string[]}
 */
export function fieldPath(kind, [member = "", ...rest]) {
  if (kind === "model-routes" && member === "name") return [NAME_MEMBER];
  return member === "binds" && rest.length > 0 ? ["bound"] : [member, ...rest];
}

/**
 * The form's values for a document.
 * @param {KindName} kind
 * @param {any} document
 * @returns {any}
 */
export function formValues(kind, document) {
  if (kind === "model-routes") return { ...document, targets: linesOf(document.targets) };
  if (kind !== "limits") return document;
  const [entry = []] = Object.entries(document.binds);
  const [binds, bound] = entry;
  return { ...document, binds, bound: bound === true ? undefined : bound };
}

/**
 * The document for the form's values.
 * @param {KindName} kind
 * @param {any} values
 * @returns {any}
 */
export function documentOf(kind, values) {
  if (kind === "model-routes") return { ...values, targets: targetsOf(values.targets) };
  if (kind !== "limits") return values;
  const { bound = "", ...members } = values;
  return { ...members, binds: { [members.binds]: members.binds === "tenant" ? true : bound } };
}
