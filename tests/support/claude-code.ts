// What Claude Code sends to a gateway, and providers that answer it.
import { register } from "./arrange.ts";
import type { Answer, Gateway } from "./gateway.ts";
import { type Handler, json, type Service, startService } from "./service.ts";

/** Inference requests have a query: a gateway matches the path. */
export const BETA = "/v1/messages?beta=true";
export const PROVIDER_KEY = "sk-ant-of-the-provider";

/** A message that an Anthropic provider responds with. */
export const answer = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-provider-name",
  content: [{ type: "text", text: "connected" }],
  stop_reason: "end_turn",
  stop_sequence: null,
  usage: { input_tokens: 10, output_tokens: 2 },
};

/** Responds to messages, and counts tokens. */
export const well: Handler = (call, response) =>
  json(call.path.includes("count_tokens") ? { input_tokens: 42 } : answer)(call, response);

/** The same in OpenAI's format. */
export const completion = {
  id: "c",
  choices: [{ index: 0, message: { role: "assistant", content: "connected" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 10, completion_tokens: 2 },
};

/** The headers of a request of Claude Code. */
export const own = {
  "anthropic-version": "2023-06-01",
  "anthropic-beta": "claude-code-20250219,context-management-2025-06-27,effort-2025-11-24,a-value-of-tomorrow",
  "x-claude-code-session-id": "0b9e2f4e-6f63-4c55-8a2c-2f0c7ddc3a11",
  "x-claude-code-agent-id": "agent-7",
  "x-claude-code-parent-agent-id": "agent-1",
  "x-app": "cli",
  "user-agent": "claude-cli/2.1.300 (external, cli)",
  "x-stainless-lang": "js",
  "x-stainless-retry-count": "0",
};
/** The block that names the client, with a fingerprint of the conversation. */
export const BILLING = "x-anthropic-billing-header: cc_version=2.1.300.abc; cc_entrypoint=cli; cch=00000;";
const ephemeral = { type: "ephemeral", ttl: "1h" };

/** A request of Claude Code: every pair of the guide's table, members of tomorrow, and text like source code. */
export const request = (model: string, more: object = {}) => ({
  model,
  max_tokens: 32_000,
  system: [
    { type: "text", text: BILLING },
    { type: "text", text: "You are Claude Code.", cache_control: ephemeral },
  ],
  messages: [
    {
      role: "user",
      content: [{ type: "text", text: "<script>alert('1 < 2 && \"3\"')</script> é 👋", cache_control: ephemeral }],
    },
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "Hm.", signature: "EqQB+/=" },
        { type: "text", text: "Yes." },
      ],
    },
    { role: "system", content: [{ type: "text", text: "A reminder.", cache_control: ephemeral }] },
    {
      role: "user",
      content: [
        { type: "tool_reference", tool_name: "Later" },
        { type: "text", text: "Go on." },
      ],
    },
  ],
  tools: [
    {
      name: "Bash",
      description: "Runs <command>",
      input_schema: { type: "object", properties: {} },
      strict: true,
      cache_control: ephemeral,
    },
    { name: "Later", input_schema: { type: "object" }, defer_loading: true, eager_input_streaming: true },
  ],
  thinking: { type: "adaptive" },
  context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
  output_config: { effort: "high", task_budget: { type: "tokens", total: 1e6 } },
  metadata: { user_id: "user_1_account__session_2" },
  member_of_tomorrow: { deep: [1.0, "x"] },
  ...more,
});

/** Registers a provider of Anthropic's format under this id. */
export async function anthropicProvider(
  gateway: Gateway,
  id: string,
  models: object[],
  handler: Handler = well,
): Promise<Service> {
  const service = await startService(handler, { probe: json({ data: [] }) });
  await register(gateway, id, {
    name: "A provider",
    type: "llm",
    transport: { kind: "anthropic", url: service.url },
    credentials: { headers: { "x-api-key": PROVIDER_KEY } },
    models,
  });
  return service;
}

/** Registers a provider of OpenAI's format under this id. */
export async function openaiProvider(gateway: Gateway, id: string, models: object[]): Promise<Service> {
  const service = await startService(json(completion), { probe: json({ data: [] }) });
  await register(gateway, id, {
    name: "A provider of the other format",
    type: "llm",
    transport: { kind: "openai", url: `${service.url}v1` },
    models,
  });
  return service;
}

/** A request with the headers of Claude Code. */
export const post = (
  gateway: Gateway,
  path: string,
  key: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> =>
  gateway.request("POST", path, { key, body, headers: { ...own, "content-type": "application/json", ...headers } });
