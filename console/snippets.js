// Snippets that call this gateway, ready to run.

/**
 * A text as a Python literal; a JSON string is one, too.
 * @param {string} text
 * @returns {string}
 */
const pythonText = (text) => (text.includes("'''") ? JSON.stringify(text) : `r'''${text}'''`);

/**
 * @param {string} url
 * @param {string} body
 * @returns {string}
 */
const curl = (url, body) => `curl -sS ${url} \\
  -H "Authorization: Bearer $NARTHEX_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body.replaceAll("'", "'\\''")}'`;

/**
 * @param {string} url
 * @param {string} body
 * @returns {string}
 */
const javaScript = (url, body) => `const response = await fetch("${url}", {
  method: "POST",
  headers: { authorization: \`Bearer \${process.env.NARTHEX_KEY}\`, "content-type": "application/json" },
  body: JSON.stringify(${body}),
});
console.log(await response.json());`;

/**
 * @param {string} url
 * @param {string} body
 * @returns {string}
 */
const python = (url, body) => `import os, urllib.request

request = urllib.request.Request("${url}", ${pythonText(body)}.encode(), {
    "Authorization": f"Bearer {os.environ['NARTHEX_KEY']}",
    "Content-Type": "application/json",
})
print(urllib.request.urlopen(request).read().decode())`;

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
 * @param {string} origin of this gateway
 * @param {string} body of `POST /v1/contexts`
 * @returns {Record<string, string>} by what they are for
 */
export function snippetsFor(origin, body) {
  const url = `${origin}/v1/contexts`;
  const mcpUrl = `${origin}/mcp`;
  return {
    curl: curl(url, body),
    JavaScript: javaScript(url, body),
    Python: python(url, body),
    "Claude Code": claudeCode(mcpUrl),
    Agents: agentConfiguration(mcpUrl),
  };
}
