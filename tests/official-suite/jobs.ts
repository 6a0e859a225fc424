// A plain HTTP service with the tools of the conformance suite's task scenarios: one that answers at once, some that
// take longer, some that request input. Longer work is answered with 202 and ended by the callback.
import { setTimeout as pause } from "node:timers/promises";
import { json, type Recorded, type Service, startService } from "../support/service.ts";

const form = (properties: Record<string, { type: string }>) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
});
const object = { type: "object" };

/** The capabilities to register. */
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

type Report = { result: unknown } | { error: object } | { input_required: object };

/** The tool that promises to report again and then never does. */
const dies = "protocol_error_job";

const steps = 4;

/** The final report of a tool that answered with 202; reports its progress before. */
async function later(
  { capability, parameters, input }: any,
  report: (body: object) => Promise<void>,
  signal: AbortSignal,
): Promise<Report> {
  switch (capability) {
    case "slow_compute":
      for (let step = 0; step < steps; step += 1) {
        await report({ progress: { progress: step, total: steps, message: `step ${step} of ${steps}` } });
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
      return { error: { code: "unknown", message: `Unknown capability ${capability}.`, retryable: false } };
  }
}

/** A tool's immediate response; undefined if it takes longer. */
function now({ capability, parameters, input }: any): Report | undefined {
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

/** @param accepted settles when the gateway has recorded that this context's work was accepted */
export async function startJobs(accepted: (context: string) => Promise<unknown>): Promise<Service> {
  const running = new Map<string, AbortController>();

  async function work(call: Recorded) {
    const stop = new AbortController();
    running.set(call.json.context_id, stop);
    try {
      await accepted(call.json.context_id);
      stop.signal.throwIfAborted();
      const report = async (body: object) => {
        const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
        const { status } = await fetch(call.json.callback_url, request);
        // 409: the work is obsolete.
        if (status === 409) stop.abort();
      };
      await report(await later(call.json, report, stop.signal));
    } catch {
      // The work is obsolete, or the gateway has stopped.
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
    if (!isLost) void work(call);
  });
}
