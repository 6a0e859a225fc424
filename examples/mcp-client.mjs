// @ts-check
// An MCP client: lists the tools of a gateway and calls one. Node 20 or newer, with
// `npm install @modelcontextprotocol/client`.
//
//   MCP_URL=https://gateway.example.com/mcp MCP_KEY=nx_… \
//     node examples/mcp-client.mjs words__word_count '{"text": "one front door"}'
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { MCP_URL = "http://127.0.0.1:8787/mcp", MCP_KEY } = process.env;
const [name = "", given = "{}"] = process.argv.slice(2);

// `auto` detects the server's revision; without it the client starts with `initialize`.
const client = new Client({ name: "my-agent", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
await client.connect(
  new StreamableHTTPClientTransport(new URL(MCP_URL), {
    requestInit: { headers: { Authorization: `Bearer ${MCP_KEY}` } },
  }),
);

const { tools } = await client.listTools();
console.log(`${client.getNegotiatedProtocolVersion()}: ${tools.map((tool) => tool.name).join(", ")}`);

const result = await client.callTool(
  { name, arguments: JSON.parse(given) },
  { onprogress: ({ progress, message }) => console.log(`${progress} ${message ?? ""}`) },
);
console.log(JSON.stringify(result.structuredContent ?? result.content));
await client.close();
