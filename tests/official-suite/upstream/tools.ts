// The tools that request no input: content of every kind, logging, progress, errors, schemas and headers.
import { setTimeout as pause } from "node:timers/promises";
import { fromJsonSchema, type McpServer } from "@modelcontextprotocol/server";
import { embedded, image, say, takes, text, wav } from "./content.ts";

/** What a tool can do to its own server. */
export type Stage = {
  toolsChanged(): void;
  promptsChanged(): void;
  /** Ends the stream of a running call, as servers do whose clients poll. */
  endStream(session: string | undefined, request: string | number): void;
};

/** The keywords of JSON Schema 2020-12 that a careless intermediary drops. */
const everyKeyword = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: {
    address: {
      $anchor: "addressDef",
      type: "object",
      properties: { street: { type: "string" }, city: { type: "string" } },
    },
  },
  properties: {
    name: { type: "string" },
    address: { $ref: "#/$defs/address" },
    contactMethod: { type: "string", enum: ["phone", "email"] },
    phone: { type: "string" },
    email: { type: "string" },
  },
  allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
  if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
  then: { required: ["phone"] },
  else: { required: ["email"] },
  additionalProperties: false,
};

export function addTools(server: McpServer, stage: Stage) {
  const nothing = takes();

  server.registerTool("test_simple_text", { description: "Gives a text." }, async () =>
    say("This is a simple text response for testing."));
  server.registerTool("test_image_content", { description: "Gives an image." }, async () => ({ content: [image] }));
  server.registerTool("test_audio_content", { description: "Gives a recording." }, async () => ({
    content: [{ type: "audio", data: wav, mimeType: "audio/wav" }],
  }));
  server.registerTool("test_embedded_resource", { description: "Gives a resource." }, async () => ({
    content: [embedded("test://embedded-resource", "This is an embedded resource content.")],
  }));
  server.registerTool("test_multiple_content_types", { description: "Gives a text, an image and a resource." }, async () => ({
    content: [
      text("Multiple content types test:"),
      image,
      embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ],
  }));
  server.registerTool("test_error_handling", { description: "Fails." }, async () => {
    throw new Error("This tool intentionally returns an error for testing");
  });

  server.registerTool("test_tool_with_logging", { description: "Logs three lines.", inputSchema: nothing }, async (_, { mcpReq }) => {
    for (const line of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await mcpReq.log("info", line);
      await pause(20);
    }
    return say("Tool with logging executed successfully");
  });
  server.registerTool("test_logging_tool", { description: "Logs a line.", inputSchema: nothing }, async (_, { mcpReq }) => {
    await mcpReq.log("info", "For subscribers only");
    return say("logged");
  });
  server.registerTool("test_tool_with_progress", { description: "Reports progress.", inputSchema: nothing }, async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
      const params = { progressToken: progressToken!, progress, total: 100, message: `Completed step ${progress} of 100` };
      await mcpReq.notify({ method: "notifications/progress", params });
      await pause(20);
    }
    return say(String(progressToken ?? "no progress token"));
  });
  server.registerTool("test_reconnection", { description: "Ends its stream before its result.", inputSchema: nothing }, async (_, { sessionId, mcpReq }) => {
    stage.endStream(sessionId, mcpReq.id);
    await pause(100);
    return say("Reconnection test completed successfully.");
  });
  server.registerTool("test_streaming_elicitation", { description: "Requests no input.", inputSchema: nothing }, async () =>
    say("nothing but a result"));

  server.registerTool("json_schema_2020_12_tool", { description: "Has a schema with every keyword.", inputSchema: fromJsonSchema(everyKeyword) }, async (given) =>
    say(`JSON Schema 2020-12 tool called with: ${JSON.stringify(given)}`));
  server.registerTool(
    "test_x_mcp_header",
    {
      description: "Has an argument that a header repeats.",
      inputSchema: takes<{ region?: string; level?: number }>(
        { region: { type: "string", "x-mcp-header": "Region" }, level: { type: "integer" } },
        [],
      ),
    },
    async ({ region }) => say(`region=${region ?? "<none>"}`),
  );

  server.registerTool("test_trigger_tool_change", { description: "Says that the tools have changed.", inputSchema: nothing }, async () => {
    stage.toolsChanged();
    return say("notified");
  });
  server.registerTool("test_trigger_prompt_change", { description: "Says that the prompts have changed.", inputSchema: nothing }, async () => {
    stage.promptsChanged();
    return say("notified");
  });
}
