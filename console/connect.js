// Ready lines to call this gateway from elsewhere.
import { may, maybe } from "./api.js";
import { block, fill, h, link } from "./dom.js";

/** A value to start from. */
function example({ type, properties = {}, examples = [], enum: choices = [], default: preset, minimum = 1 } = /** @type {any} */ ({})) {
  const plain = { string: "text", integer: minimum, number: minimum, boolean: true, array: [] };
  return examples[0] ?? preset ?? choices[0] ?? plain[type] ?? Object.fromEntries(Object.entries(properties).map(([name, part]) => [name, example(part)]));
}

const lines = (url, body) => ({
  curl: `curl -sS ${url} \\
  -H "Authorization: Bearer $NARTHEX_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body.replaceAll("'", "'\\''")}'`,
  JavaScript: `const answer = await fetch("${url}", {
  method: "POST",
  headers: { authorization: \`Bearer \${process.env.NARTHEX_KEY}\`, "content-type": "application/json" },
  body: JSON.stringify(${body}),
});
console.log(await answer.json());`,
  Python: `import os, urllib.request

request = urllib.request.Request("${url}", r'''${body}'''.encode(), {
    "Authorization": f"Bearer {os.environ['NARTHEX_KEY']}",
    "Content-Type": "application/json",
})
print(urllib.request.urlopen(request).read().decode())`,
  "Claude Code": `claude mcp add --transport http narthex ${location.origin}/mcp \\
  --header "Authorization: Bearer $NARTHEX_KEY"`,
  Agents: JSON.stringify({ mcpServers: { narthex: { type: "http", url: `${location.origin}/mcp`, headers: { Authorization: "Bearer ${NARTHEX_KEY}" } } } }),
});

export async function connect({ view }) {
  const offers = (may("services:read") && (await maybe("/v1/capabilities"))?.data) || [];
  const choice = h("select", { id: "choice", onchange: draw }, offers.map(({ name }) => h("option", name)));
  const shown = h("div.stack");
  function draw() {
    const { name = "word_count", input_schema } = offers.find(({ name }) => name === choice.value) ?? {};
    const body = JSON.stringify({ capability: name, parameters: example(input_schema) });
    fill(shown, Object.entries(lines(`${location.origin}/v1/contexts`, body)).map(([name, text]) => block(name, text)));
  }
  draw();
  fill(view, h("h1", "Connect"), h("p", "Put ", link("a key", "#/access/keys"), " of the role caller, one for each program, into the environment variable NARTHEX_KEY."),
    offers.length > 0 && h("div.field.narrow", h("label", { for: "choice" }, "Capability"), choice), shown,
    h("p.soft", "The whole contract: ", link("openapi.json", "/openapi.json"), ", ", link("asyncapi.json", "/asyncapi.json")));
}
