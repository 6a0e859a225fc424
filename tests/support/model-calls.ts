// What a provider of models gets of a client: directly, and through the gateway, which changes little.
import { createHash } from "node:crypto";
import { providerNames } from "./model-upstream.ts";
import type { Recorded } from "./service.ts";

type Received = { path: string; headers: Record<string, unknown>; body: string };

function received(call: Recorded): Received {
  const names = ["content-type", "accept", "anthropic-version", "anthropic-beta", "openai-beta"];
  const headers = Object.fromEntries(names.map((name) => [name, call.headers[name]]));
  return { path: call.path, headers, body: call.raw.toString() };
}

/** The changes of the gateway: the name of the model, and what is added at the end. */
function changed({ path, headers, body }: Received): Received {
  const names: Record<string, string> = providerNames;
  const text = body.replace(/"model":"(\w+)"/, (_, name) => `"model":"${names[name] ?? name}"`);
  const { stream, stream_options, store } = JSON.parse(body);
  const added =
    path === "/v1/chat/completions" && stream && !stream_options
      ? ',"stream_options":{"include_usage":true}'
      : path === "/v1/responses" && store === undefined
        ? ',"store":false'
        : "";
  return { path, headers, body: `${text.slice(0, -1)}${added}}` };
}

/** A large body by its hash: to show all of it says less. */
const brief = ({ body, ...rest }: Received) => ({
  ...rest,
  body: body.length < 100_000 ? body : `${body.length} of ${createHash("sha256").update(body).digest("hex")}`,
});

/** A call as the provider got it. */
export const asReceived = (call: Recorded) => brief(received(call));

/** A direct call as the provider would get it through the gateway. */
export const asChanged = (call: Recorded) => brief(changed(received(call)));
