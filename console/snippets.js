// Snippets that call this gateway, ready to run.

/**
 * A text as a Python literal; a JSON string is one, too.
 * @param {string} text
 * @returns {string}
 */
const pythonText = (text) => (text.includes("'''") ? JSON.stringify(text) : `r'''${text}'''`);

/** How the response is printed: as a whole, or as it arrives. */
const WHOLE = {
  curl: "-sS",
  JavaScript: "console.log(await response.json());",
  Python: "print(urllib.request.urlopen(request).read().decode())",
};
const STREAMED = {
  curl: "-sSN",
  JavaScript: `const decoder = new TextDecoder();
for await (const piece of response.body) process.stdout.write(decoder.decode(piece, { stream: true }));`,
  Python: `for line in urllib.request.urlopen(request):
    print(line.decode(), end="", flush=True)`,
};

/**
 * @param {string} url
 * @param {string} body
 * @param {string} options
 * @returns {string}
 */
const curl = (url, body, options) => `curl ${options} ${url} \\
  -H "Authorization: Bearer $NARTHEX_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body.replaceAll("'", "'\\''")}'`;

/**
 * @param {string} url
 * @param {string} body
 * @param {string} print
 * @returns {string}
 */
const javaScript = (url, body, print) => `const response = await fetch("${url}", {
  method: "POST",
  headers: { authorization: \`Bearer \${process.env.NARTHEX_KEY}\`, "content-type": "application/json" },
  body: JSON.stringify(${body}),
});
${print}`;

/**
 * @param {string} url
 * @param {string} body
 * @param {string} print
 * @returns {string}
 */
const python = (url, body, print) => `import os, urllib.request

request = urllib.request.Request("${url}", ${pythonText(body)}.encode(), {
    "Authorization": f"Bearer {os.environ['NARTHEX_KEY']}",
    "Content-Type": "application/json",
})
${print}`;

/**
 * @param {string} mcpUrl
 * @returns {string}
 */
const claudeCode = (mcpUrl) => `claude mcp add --transport http narthex ${mcpUrl} \\
  --header "Authorization: Bearer $NARTHEX_KEY"`;

/**
 * The configuration of an MCP client.
 * @param {string} mcpUrl
 * @returns {string}
 */
function agentConfiguration(mcpUrl) {
  const headers = { Authorization: "Bearer ${NARTHEX_KEY}" };
  return JSON.stringify({ mcpServers: { narthex: { type: "http", url: mcpUrl, headers } } });
}

/**
 * The settings of a library, as environment variables.
 * @param {string} name the library's prefix
 * @param {string} baseUrl
 * @param {string} keyVariable
 * @returns {string}
 */
const librarySettings = (name, baseUrl, keyVariable) =>
  `export ${name}_BASE_URL=${baseUrl}\nexport ${keyVariable}="$NARTHEX_KEY"`;

/**
 * @param {string} url
 * @param {string} body
 * @param {typeof WHOLE} print
 * @returns {Record<string, string>}
 */
const callSnippets = (url, body, print) => ({
  curl: curl(url, body, print.curl),
  JavaScript: javaScript(url, body, print.JavaScript),
  Python: python(url, body, print.Python),
});

/**
 * @param {string} origin of this gateway
 * @param {string} body of `POST /v1/contexts`
 * @returns {Record<string, string>} by what they are for
 */
export function snippetsFor(origin, body) {
  const mcpUrl = `${origin}/mcp`;
  return {
    ...callSnippets(`${origin}/v1/contexts`, body, WHOLE),
    "Claude Code": claudeCode(mcpUrl),
    Agents: agentConfiguration(mcpUrl),
  };
}

/**
 * @param {string} origin of this gateway
 * @param {string} body of `POST /v1/chat/completions`, streamed
 * @returns {Record<string, string>} by what they are for
 */
export const chatSnippets = (origin, body) => callSnippets(`${origin}/v1/chat/completions`, body, STREAMED);

/**
 * What libraries and editors need to use the models of this gateway.
 * @param {string} origin of this gateway
 * @returns {Record<string, string>} by what they are for
 */
export const librarySnippets = (origin) => ({
  "OpenAI's libraries": librarySettings("OPENAI", `${origin}/v1`, "OPENAI_API_KEY"),
  "Anthropic's libraries": librarySettings("ANTHROPIC", origin, "ANTHROPIC_AUTH_TOKEN"),
});
