// The content that the upstream's tools, resources and prompts return: the smallest of each kind.
import { fromJsonSchema, inputRequired } from "@modelcontextprotocol/server";

/** One red pixel. */
export const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/** An empty recording. */
export const wav = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

export const text = (words: string) => ({ type: "text" as const, text: words });
export const image = { type: "image" as const, data: png, mimeType: "image/png" };
export const embedded = (uri: string, words: string, mimeType = "text/plain") => ({
  type: "resource" as const,
  resource: { uri, mimeType, text: words },
});
export const say = (words: string) => ({ content: [text(words)] });

type Property = { type: "string" | "boolean" | "integer"; [more: string]: unknown };

/** The schema of a form; all members are required. */
export const form = (properties: Record<string, Property>) => ({
  type: "object" as const,
  properties,
  required: Object.keys(properties),
});

/** The arguments of a tool or prompt. Written as JSON, so that lists contain exactly this. */
export const takes = <T = Record<string, never>>(properties: Record<string, Property> = {}, required = Object.keys(properties)) =>
  fromJsonSchema<T>({ type: "object", properties, ...(required.length > 0 && { required }) });

/** Asks the user to fill in a form with one field. */
export const question = (message: string, field: string, type: Property["type"] = "string") =>
  inputRequired.elicit({ message, requestedSchema: form({ [field]: { type } }) as never });

/** Asks the client's model. */
export const prompting = (words: string, maxTokens = 100) =>
  inputRequired.createMessage({ messages: [{ role: "user", content: text(words) }], maxTokens });
