// A service by plain HTTP that offers the tools of the referee's scenarios for tasks: one that answers at once, some that
// take longer, some that ask. What takes longer is answered 202 and ended by the callback.
import { setTimeout as pause } from "node:timers/promises";
import { json, type Recorded, type Service, startService } from "../support/service.ts";

const form = (properties: Record<string, { type: string }>) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
});
const object = { type: "object" };

/** As what the tools are registered. */
export const capabilities = [
  { name: "greet", input_schema: form({ name: { type: "string" } }), idempotent: true, task_support: "forbidden" },
  {
    name: "slow_compute",
    input_schema: {
      type: "object",
      properties: { seconds: { type: "number" }, label: { type: "string" } },
      required: ["seconds"],
    },
  },
  { name: "failing_job", input_schema: object, task_support: "required" },
  { name: "protocol_error_job", input_schema: object },
  { name: "confirm_delete", input_schema: form({ filename: { type: "string" } }) },
  { name: "multi_input", input_schema: object },
  { name: "test_tool_with_task", input_schema: object },
];

type Said = { result: unknown } | { error: object } | { input_required: object };

/** The one that promises to report again, and then is not heard of any more. */
const dies = "protocol_error_job";

const steps = 4;

/** What a tool has to say once the gateway knows that it takes longer, and until then how far it is. */
async function later(
  { capability, parameters, input }: any,
  tell: (said: object) => Promise<void>,
  signal: AbortSignal,
): Promise<Said> {
  switch (capability) {
    case "slow_compute":
      for (let step = 0; step < steps; step += 1) {
        await tell({ progress: { progress: step, total: steps, message: `step ${step} of ${steps}` } });
        await pause((parameters.seconds * 1000) / steps, undefined, { signal });
      }
      return { result: { label: parameters.label, seconds: parameters.seconds } };
    case "failing_job":
      return { error: { code: "job_failed", message: "The job failed.", retryable: false } };
    case "confirm_delete":
      return {
        input_required: { message: `Delete ${parameters.filename}?`, schema: form({ confirm: { type: "boolean" } }) },
      };
    case "multi_input": {
      const asks = (message: string) => ({
        method: "elicitation/create",
        params: { mode: "form", message, requestedSchema: form({ name: { type: "string" } }) },
      });
      const inputRequests = { first: asks("What is the first name?"), second: asks("What is the second name?") };
      return { input_required: { message: "Two names are needed.", mcp: { inputRequests } } };
    }
    case "test_tool_with_task":
      return { result: { greeting: `Hello, ${input.name}!` } };
    default:
      return { error: { code: "unknown", message: `There is no ${capability}.`, retryable: false } };
  }
}

/** What a tool says at once; nothing when it takes longer. */
function now({ capability, parameters, input }: any): Said | undefined {
  switch (capability) {
    case "greet":
      return { result: `Hello, ${parameters.name}!` };
    case "slow_compute":
      return parameters.seconds === 0 ? { result: { label: parameters.label, seconds: 0 } } : undefined;
    case "confirm_delete":
      return input && { result: { deleted: input.confirm } };
    case "multi_input":
      return input && { result: { answered: input } };
    case "test_tool_with_task":
      return input
        ? undefined
        : { input_required: { message: "What is your name?", schema: form({ name: { type: "string" } }) } };
    default:
      return undefined;
  }
}

export async function startJobs(): Promise<Service> {
  const running = new Map<string, AbortController>();

  async function goOn(call: Recorded) {
    const stop = new AbortController();
    running.set(call.json.context_id, stop);
    try {
      // So that the gateway has read the 202 before it hears more.
      await pause(20, undefined, { signal: stop.signal });
      const tell = async (said: object) => {
        const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(said) };
        const { status } = await fetch(call.json.callback_url, request);
        // 409: nobody wants it any more.
        if (status === 409) stop.abort();
      };
      await tell(await later(call.json, tell, stop.signal));
    } catch {
      // Not wanted any more, or the gateway has gone: there is nobody to tell.
    } finally {
      running.delete(call.json.context_id);
    }
  }

  return startService((call, response) => {
    if (call.method === "DELETE") {
      running.get(call.json.context_id)?.abort();
      return json({})(call, response);
    }
    const said = now(call.json);
    if (said) return json(said)(call, response);
    const isLost = call.json.capability === dies;
    json(isLost ? { lease_seconds: 5 } : {}, 202)(call, response);
    if (!isLost) void goOn(call);
  });
}
