// The kinds of documents under Access: how each is shown in a line, and what its form asks for.
import { get } from "./api.js";
import { brief } from "./dom.js";

/** By path. Without a `schema` it is not written here. */
export const KINDS =
  /** @type {Record<string, { one: string, schema?: string, about: string, line(item: any): string }>} */ ({
    keys: {
      one: "key",
      schema: "NewKey",
      about: "Each program and each person has their own.",
      line: ({ role, permissions, last_four }) => [role, ...permissions, `…${last_four}`].join(" · "),
    },
    roles: {
      one: "role",
      schema: "NewRole",
      about: "Named sets of permissions.",
      line: ({ permissions }) => permissions.join(", ") || "nothing by itself",
    },
    limits: {
      one: "limit",
      schema: "NewRateLimit",
      about: "How much is let in, and from whom.",
      line: ({ kind, quota, window_seconds: seconds, binds }) =>
        `${quota} ${kind}${seconds ? ` in ${seconds} s` : ""} · ${brief(binds)}`,
    },
    issuers: {
      one: "issuer",
      schema: "NewIssuer",
      about: "Identity providers whose tokens are accepted.",
      line: ({ issuer }) => issuer,
    },
    clients: {
      one: "client",
      schema: "NewClient",
      about: "Programs and apps that get tokens here.",
      line: ({ client_id, scope }) => `${client_id} · ${scope}`,
    },
    grants: {
      one: "grant",
      about: "What people have allowed apps.",
      line: ({ principal, scope, resource }) => [principal, scope, resource].join(" · "),
    },
  });

const LIMIT_KINDS = {
  tenant: "the whole tenant",
  role: "a role",
  key: "a key",
  service: "a service",
  capability: "a capability",
};

/** A schema of the contract, references resolved. */
async function schemaOf(name) {
  const { schemas } = (await get("/openapi.json")).components;
  const resolve = (_, one) => {
    if (one?.$ref) return whole(schemas[one.$ref.split("/").pop()]);
    return one?.allOf?.length === 1 ? { ...one.allOf[0], ...one } : one;
  };
  const whole = (schema) => JSON.parse(JSON.stringify(schema), resolve);
  return whole(schemas[name]);
}

/** `jwks_url` as a label: `JWKS URL`. */
function labelOf(member) {
  const words = member.replaceAll("_", " ").replace(/\b(jwks|ur[il])(s?)\b/g, (_, word, s) => word.toUpperCase() + s);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A role by name: one of those that there are, where they may be read. */
async function roleField(more) {
  const roles = await get("/v1/roles").then(
    ({ data }) => data.map(({ name }) => name),
    () => undefined,
  );
  return { title: "Role", ...(roles ? { enum: roles } : { type: "string" }), ...more };
}

/** The schema of the form that makes one, or changes `item`. */
export async function schemaFor(kind, item) {
  const { properties, required = [] } = await schemaOf(KINDS[kind].schema);
  for (const [member, part] of Object.entries(properties)) {
    // The contract names what is used without a value apart from JSON Schema's own word, which generators misread.
    Object.assign(part, { title: labelOf(member), default: part.default ?? part["x-default"] });
  }
  if (kind === "keys") properties.role = await roleField({ default: "caller" });
  if (kind === "issuers") properties.role = await roleField({ description: properties.role.description, none: "none" });
  if (kind === "limits") {
    properties.kind.default = "requests";
    const choices = Object.keys(LIMIT_KINDS);
    delete properties.binds;
    properties.binds = {
      title: "Binds",
      description: "Whom or what it limits.",
      enum: choices,
      titles: Object.values(LIMIT_KINDS),
    };
    const description = "Its id or name; * is each of them by itself. Nothing for the whole tenant.";
    properties.bound = { title: "Which one", type: "string", description, examples: ["caller"] };
  }
  const isNew = !item && kind !== "keys";
  const its = {
    title: kind === "clients" ? "Id" : "Name",
    type: "string",
    description: "Lower-case letters, digits, - and _.",
  };
  return { properties: { ...(isNew && { its }), ...properties }, required: ["its", ...required] };
}

/** The field of that form that a place in the document comes from. */
export const fieldOf = ([first, ...rest]) => (first === "binds" && rest.length > 0 ? ["bound"] : [first, ...rest]);

/** The values of that form for a document. */
export function valueOf(kind, item) {
  if (kind !== "limits") return item;
  const [[binds, bound]] = Object.entries(item.binds);
  return { ...item, binds, bound: bound === true ? undefined : bound };
}

/** The document that the form's values make. */
export function documentOf(kind, values) {
  if (kind !== "limits") return values;
  const { bound, ...given } = values;
  return { ...given, binds: { [given.binds]: given.binds === "tenant" ? true : (bound ?? "") } };
}
