// The tools of `jobs.ts` on an MCP server, so that clients can be tested in the same way.
import { setTimeout as pause } from "node:timers/promises";
import { acceptedContent, inputRequired, type McpServer } from "@modelcontextprotocol/server";
import { question, say, takes, text } from "./content.ts";

const steps = 4;

export function addSameTools(server: McpServer, cancelled: (label: string) => void) {
  server.registerTool("greet", { description: "Greets.", inputSchema: takes<{ name: string }>({ name: { type: "string" } }) }, async ({ name }) =>
    say(`Hello, ${name}!`));

  const time = takes<{ seconds: number; label?: string }>({ seconds: { type: "integer" }, label: { type: "string" } }, ["seconds"]);
  server.registerTool("take_time", { description: "Takes its time.", inputSchema: time }, async ({ seconds, label }, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (let step = 0; step < steps; step += 1) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress: step, total: steps, message: `step ${step} of ${steps}` };
        await mcpReq.notify({ method: "notifications/progress", params });
      }
      await pause((seconds * 1000) / steps, undefined, { signal: mcpReq.signal }).catch((error) => {
        cancelled(label ?? "");
        throw error;
      });
    }
    const structuredContent = { seconds, ...(label !== undefined && { label }) };
    return { content: [text(JSON.stringify(structuredContent))], structuredContent };
  });

  const file = takes<{ filename: string }>({ filename: { type: "string" } });
  server.registerTool("confirm_delete", { description: "Asks before it deletes.", inputSchema: file }, async ({ filename }, { mcpReq }) => {
    const said = acceptedContent<{ confirm: boolean }>(mcpReq.inputResponses, "confirm");
    if (!said) return inputRequired({ inputRequests: { confirm: question(`Delete ${filename}?`, "confirm", "boolean") } });
    const structuredContent = { deleted: said.confirm };
    return { content: [text(JSON.stringify(structuredContent))], structuredContent };
  });
}
