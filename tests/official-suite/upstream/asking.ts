// The tools that request input: from the user by a form, from the client's model, the client's roots; once, together and
// in turn. Each is written once: the SDK asks a modern client in the result, and a legacy client by requests.
import { randomUUID } from "node:crypto";
import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  type McpServer,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { form, prompting, question, say, takes } from "./content.ts";

/** Signed, because a client may return anything. One key for all, because each modern request has a server of its own. */
export const states = createRequestStateCodec<Record<string, unknown>>({ key: crypto.getRandomValues(new Uint8Array(32)) });

/** A form with a default for each kind of value. */
const withDefaults = {
  type: "object",
  properties: {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  },
  required: [],
};

const titled = (words: string[], noun: string) => words.map((word, at) => ({ const: `value${at + 1}`, title: `${word} ${noun}` }));
/** A form with every notation for a choice. */
const withChoices = {
  type: "object",
  properties: {
    untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
    titledSingle: { type: "string", oneOf: titled(["First", "Second", "Third"], "Option") },
    legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option One", "Option Two", "Option Three"] },
    untitledMulti: { type: "array", minItems: 1, maxItems: 3, items: { type: "string", enum: ["option1", "option2", "option3"] } },
    titledMulti: { type: "array", minItems: 1, maxItems: 3, items: { anyOf: titled(["First", "Second", "Third"], "Choice") } },
  },
  required: [],
};

/** The user's answer to a form, if there is one. */
const filled = <T extends Record<string, unknown>>({ mcpReq }: ServerContext, key: string) => acceptedContent<T>(mcpReq.inputResponses, key);
/** The response of the client's model, if there is one. */
function modelSaid({ mcpReq }: ServerContext, key: string): string | undefined {
  const said = inputResponse(mcpReq.inputResponses, key);
  if (said.kind !== "sampling") return undefined;
  const { content } = said.result as { content: { text?: string } };
  return content.text ?? JSON.stringify(content);
}
function rootsOf({ mcpReq }: ServerContext, key: string) {
  const said = inputResponse(mcpReq.inputResponses, key);
  return said.kind === "roots" ? said.roots : undefined;
}

export function addAskingTools(server: McpServer) {
  const nothing = takes();

  server.registerTool("test_sampling", { description: "Asks the model.", inputSchema: takes<{ prompt: string }>({ prompt: { type: "string" } }) }, async ({ prompt }, ctx) => {
    const said = modelSaid(ctx, "completion");
    return said === undefined ? inputRequired({ inputRequests: { completion: prompting(prompt) } }) : say(`LLM response: ${said}`);
  });
  /** A tool that shows one form and repeats the answer. */
  const repeats = (name: string, begins: string, description: string, asks: (message: string) => ReturnType<typeof question>) =>
    server.registerTool(name, { description, inputSchema: takes<{ message?: string }>({ message: { type: "string" } }, []) }, async ({ message = "Please fill this in" }, ctx) => {
      const said = inputResponse(ctx.mcpReq.inputResponses, "form");
      if (said.kind !== "elicit") return inputRequired({ inputRequests: { form: asks(message) } });
      const content = said.action === "accept" ? said.content : {};
      return say(`${begins}: action=${said.action}, content=${JSON.stringify(content ?? {})}`);
    });
  repeats("test_elicitation", "User response", "Asks the user.", (message) => question(message, "response"));
  repeats("test_elicitation_sep1034_defaults", "Elicitation completed", "Asks with defaults.", (message) =>
    inputRequired.elicit({ message, requestedSchema: withDefaults as never }));
  repeats("test_elicitation_sep1330_enums", "Elicitation completed", "Asks with choices.", (message) =>
    inputRequired.elicit({ message, requestedSchema: withChoices as never }));

  const askName = () => question("What is your name?", "name");
  server.registerTool("test_input_required_result_elicitation", { description: "Asks for a name.", inputSchema: nothing }, async (_, ctx) => {
    const name: unknown = filled<{ name: string }>(ctx, "user_name")?.name;
    return typeof name === "string" ? say(`Hello, ${name}!`) : inputRequired({ inputRequests: { user_name: askName() } });
  });
  server.registerTool("test_input_required_result_sampling", { description: "Asks for a capital.", inputSchema: nothing }, async (_, ctx) => {
    const said = modelSaid(ctx, "capital_question");
    if (said !== undefined) return say(`Sampling response: ${said}`);
    return inputRequired({ inputRequests: { capital_question: prompting("What is the capital of France?") } });
  });
  server.registerTool("test_input_required_result_list_roots", { description: "Asks for the roots.", inputSchema: nothing }, async (_, ctx) => {
    const roots = rootsOf(ctx, "client_roots");
    if (roots) return say(`Client exposed ${roots.length} root(s): ${roots.map(({ uri }) => uri).join(", ")}`);
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });
  server.registerTool("test_missing_capability", { description: "Asks the model, whatever the client can do.", inputSchema: nothing }, async (_, ctx) => {
    const said = modelSaid(ctx, "completion");
    return said === undefined ? inputRequired({ inputRequests: { completion: prompting("Say pong.", 16) } }) : say(said);
  });

  const confirm = async (tool: string) =>
    inputRequired({
      inputRequests: { confirm: question("Please confirm", "ok", "boolean") },
      requestState: await states.mint({ tool, nonce: randomUUID() }),
    });
  server.registerTool("test_input_required_result_request_state", { description: "Keeps state between rounds.", inputSchema: nothing }, async (_, ctx) => {
    if (filled(ctx, "confirm") === undefined) return confirm("request_state");
    if (ctx.mcpReq.requestState() === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Without its requestState");
    return say("state-ok: requestState verified and confirmation received");
  });
  server.registerTool("test_input_required_result_tampered_state", { description: "Takes no state but its own.", inputSchema: nothing }, async (_, ctx) => {
    const known = ctx.mcpReq.requestState() !== undefined && filled(ctx, "confirm") !== undefined;
    return known ? say("integrity-ok: requestState verified") : confirm("tampered_state");
  });
  server.registerTool("test_input_required_result_multiple_inputs", { description: "Asks three things at once.", inputSchema: nothing }, async (_, ctx) => {
    const name = filled<{ name: string }>(ctx, "user_name")?.name;
    const [greeting, roots] = [modelSaid(ctx, "greeting"), rootsOf(ctx, "client_roots")];
    if (name !== undefined && greeting !== undefined && roots) return say(`${greeting} ${name}: ${roots.length} root(s)`);
    return inputRequired({
      inputRequests: { user_name: askName(), greeting: prompting("Generate a greeting", 50), client_roots: inputRequired.listRoots() },
      requestState: await states.mint({ tool: "multiple_inputs", nonce: randomUUID() }),
    });
  });
  server.registerTool("test_input_required_result_multi_round", { description: "Asks twice, one after the other.", inputSchema: nothing }, async (_, ctx) => {
    const state = ctx.mcpReq.requestState<{ round?: number; name?: string }>();
    const next = async (key: string, message: string, field: string, kept: object) =>
      inputRequired({ inputRequests: { [key]: question(message, field) }, requestState: await states.mint({ ...kept, nonce: randomUUID() }) });
    if (state?.round === undefined) return next("step1", "Step 1: What is your name?", "name", { round: 1 });
    if (state.round === 1) {
      const name = filled<{ name: string }>(ctx, "step1")?.name ?? "unknown";
      return next("step2", "Step 2: What is your favorite color?", "color", { round: 2, name });
    }
    return say(`Multi-round complete: ${state.name} likes ${filled<{ color: string }>(ctx, "step2")?.color ?? "nothing"}`);
  });
  server.registerTool("test_input_required_result_capabilities", { description: "Asks only what the client can.", inputSchema: nothing }, async (_, ctx) => {
    if (ctx.mcpReq.inputResponses !== undefined) return say("answered");
    const envelope = ctx.mcpReq.envelope as Record<string, Record<string, unknown>> | undefined;
    const declared = envelope?.[CLIENT_CAPABILITIES_META_KEY];
    const inputRequests = {
      ...(declared?.elicitation !== undefined && { user_name: askName() }),
      ...(declared?.sampling !== undefined && { greeting: prompting("Generate a short greeting", 50) }),
      ...(declared?.roots !== undefined && { client_roots: inputRequired.listRoots() }),
    };
    return Object.keys(inputRequests).length > 0 ? inputRequired({ inputRequests }) : say("This client cannot be asked");
  });

  server.registerPrompt("test_input_required_result_prompt", { description: "A prompt that asks first." }, async (given: unknown) => {
    // Without arguments the context is the first parameter, contrary to the SDK's types.
    const context: unknown = filled<{ context: string }>(given as ServerContext, "user_context")?.context;
    if (typeof context === "string") return { messages: [{ role: "user", content: { type: "text", text: `Use this: ${context}` } }] };
    return inputRequired({ inputRequests: { user_context: inputRequired.elicit({ message: "In what context?", requestedSchema: form({ context: { type: "string" } }) as never }) } });
  });
}
