// A client of a gateway by real HTTP, which holds every response to the contract.
import { request, type RequestOptions as HttpOptions } from "node:http";
import { request as requestSecurely } from "node:https";
import { Readable } from "node:stream";
import type { Contract } from "./contract.ts";

export type RequestOptions = {
  /** A string or bytes are sent unchanged; anything else as JSON with `Content-Type: application/json`. */
  body?: unknown;
  headers?: Record<string, string>;
  /** Bearer token. Default: the admin key; null: none. */
  key?: string | null;
  /** False: this response is not checked against the contract. */
  contract?: boolean;
  signal?: AbortSignal;
};

// `any`: tests assert what they expect of a response.
export type Answer = {
  status: number;
  headers: Headers;
  text: string;
  /** The body as JSON; undefined if it is not JSON. */
  json: any;
};

export type Client = {
  /** `http://127.0.0.1:port`, without a slash at the end. */
  url: string;
  adminKey: string;
  /** Sends a request and reads the whole response; never follows redirects. */
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  /** The same with an unread body: for streams. Not checked against the contract. */
  open(method: string, path: string, options?: RequestOptions): Promise<Response>;
  /** Reads such a response to its end, and checks it against the contract. */
  finish(method: string, path: string, response: Response): Promise<Answer>;
};

/**
 * A client of the gateway at this address.
 * @param adminKey returns the key that requests have unless they say otherwise
 * @param ca the certificate to trust, where the address is of HTTPS
 */
export function clientOf(
  url: string,
  adminKey: () => string,
  contract: Contract | undefined,
  ca: string | undefined = undefined,
): Client {
  const open: Client["open"] = (method, path, { headers: given, key = adminKey(), body: content, signal } = {}) => {
    const headers = new Headers(given);
    if (key !== null && !headers.has("authorization")) headers.set("authorization", `Bearer ${key}`);
    const raw = typeof content === "string" || content instanceof Uint8Array;
    if (content !== undefined && !raw && !headers.has("content-type")) headers.set("content-type", "application/json");
    const body = content === undefined ? undefined : Buffer.from(raw ? (content as string) : JSON.stringify(content));
    if (body) headers.set("content-length", String(body.length));
    return exchange(
      url + path,
      { method, headers: Object.fromEntries(headers), ...(signal && { signal }), ...(ca && { ca }) },
      body,
    );
  };

  const finish: Client["finish"] = async (method, path, response) => {
    const answer = await whole(response);
    contract?.checkAnswer(method, path, answer.status, answer.headers, answer.text);
    return answer;
  };

  return {
    url,
    get adminKey() {
      return adminKey();
    },
    open,
    finish,
    async request(method, path, request = {}) {
      const response = await open(method, path, request);
      return request.contract === false ? whole(response) : finish(method, path, response);
    },
  };
}

/**
 * One exchange by Node's own client: unlike `fetch` it sends `Host` as given and adds no other headers. Cancelling the
 * response's body closes the connection.
 */
function exchange(url: string, options: HttpOptions & { ca?: string }, body: Buffer | undefined): Promise<Response> {
  return new Promise((resolve, reject) => {
    // One connection per request: workerd closes a connection whose request body the Worker did not read.
    const send = url.startsWith("https:") ? requestSecurely : request;
    const outgoing = send(url, { ...options, agent: false }, (incoming) => {
      const status = incoming.statusCode ?? 0;
      const headers = new Headers();
      for (let at = 0; at + 1 < incoming.rawHeaders.length; at += 2) {
        headers.append(incoming.rawHeaders[at]!, incoming.rawHeaders[at + 1]!);
      }
      const empty = options.method === "HEAD" || [204, 205, 304].includes(status);
      if (empty) incoming.resume();
      resolve(new Response(empty ? null : (Readable.toWeb(incoming) as ReadableStream), { status, headers }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function whole(response: Response): Promise<Answer> {
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parsed(text) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
