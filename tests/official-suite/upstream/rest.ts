// Everything other than tools: resources, prompts, completion.
import { type McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { embedded, image, png, takes, text } from "./content.ts";

const user = (content: ReturnType<typeof text> | typeof image | ReturnType<typeof embedded>) => ({ role: "user" as const, content });

export function addResources(server: McpServer) {
  const resource = (name: string, mimeType: string, content: { text: string } | { blob: string }) =>
    server.registerResource(name, `test://${name}`, { title: name, description: "For tests", mimeType }, async ({ href }) => ({
      contents: [{ uri: href, mimeType, ...content }],
    }));
  resource("static-text", "text/plain", { text: "This is the content of the static text resource." });
  resource("static-binary", "image/png", { blob: png });
  resource("watched-resource", "text/plain", { text: "Watched resource content" });
  const template = new ResourceTemplate("test://template/{id}/data", { list: undefined });
  server.registerResource("template", template, { description: "Made for each id", mimeType: "application/json" }, async ({ href }, { id }) => ({
    contents: [{ uri: href, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }],
  }));
  server.server.setRequestHandler("resources/subscribe", async () => ({}));
  server.server.setRequestHandler("resources/unsubscribe", async () => ({}));
}

export function addPrompts(server: McpServer) {
  server.registerPrompt("test_simple_prompt", { description: "A prompt." }, async () => ({
    messages: [user(text("This is a simple prompt for testing."))],
  }));
  server.registerPrompt(
    "test_prompt_with_arguments",
    { description: "A prompt with arguments.", argsSchema: takes<{ arg1: string; arg2: string }>({ arg1: { type: "string" }, arg2: { type: "string" } }) },
    async ({ arg1, arg2 }) => ({ messages: [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))] }),
  );
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "A prompt with a resource.", argsSchema: takes<{ resourceUri: string }>({ resourceUri: { type: "string" } }) },
    async ({ resourceUri }) => ({
      messages: [user(embedded(resourceUri, "Embedded resource content for testing.")), user(text("Please process the resource above."))],
    }),
  );
  server.registerPrompt("test_prompt_with_image", { description: "A prompt with an image." }, async () => ({
    messages: [user(image), user(text("Please analyze the image above."))],
  }));
  server.server.setRequestHandler("completion/complete", async ({ params }) => {
    const values = ["paris", "park", "party"].filter((word) => word.startsWith(params.argument.value));
    return { completion: { values, total: values.length, hasMore: false } };
  });
}
