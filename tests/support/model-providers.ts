// The stand-in for providers of models, registered as a service of each format.
import { register } from "./arrange.ts";
import type { Gateway } from "./gateway.ts";
import { providerKeys } from "./model-upstream.ts";
import type { Service } from "./service.ts";

type Offers = {
  /** The models of each service. */
  openai: object[];
  anthropic: object[];
  /** Whether OpenAI's format includes the Responses API. */
  hasResponses: boolean;
};

/** Registers the services `openai` and `anthropic`. */
export async function registerFormats(gateway: Gateway, { url }: Service, offers: Offers): Promise<void> {
  await register(gateway, "openai", {
    name: "OpenAI's format",
    type: "llm",
    transport: { kind: "openai", url: `${url}v1`, ...(offers.hasResponses && { responses: true }) },
    credentials: { header: "Authorization", value: `Bearer ${providerKeys.openai}` },
    models: offers.openai,
  });
  await register(gateway, "anthropic", {
    name: "Anthropic's format",
    type: "llm",
    transport: { kind: "anthropic", url },
    credentials: { header: "X-API-Key", value: providerKeys.anthropic },
    models: offers.anthropic,
  });
}
