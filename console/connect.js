// Ready lines to call this gateway from elsewhere.
import { may, maybe } from "./api.js";
import { block, fill, h, link, section } from "./dom.js";

/** A value that nearly fits a schema, to be edited. */
function example(schema = {}) {
  const { type, properties = {}, examples, enum: choices } = schema;
  const [first] = [...(examples ?? choices ?? []), ...("default" in schema ? [schema.default] : [])];
  if (first !== undefined) return first;
  const plain = { string: "text", integer: schema.minimum ?? 1, number: schema.minimum ?? 1, boolean: true, array: [] };
  return plain[[type].flat()[0]] ?? Object.fromEntries(Object.entries(properties).map(([name, part]) => [name, example(part)]));
}

const lines = (url, body) => ({
  curl: `curl -sS ${url} \\
  -H "Authorization: Bearer $NARTHEX_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body.replaceAll("'", "'\\''")}'`,
  JavaScript: `const answer = await fetch("${url}", {
  method: "POST",
  headers: {
    authorization: \`Bearer \${process.env.NARTHEX_KEY}\`,
    "content-type": "application/json",
  },
  body: JSON.stringify(${body}),
});
console.log(await answer.json());`,
  Python: `import os, urllib.request

request = urllib.request.Request("${url}", r'''${body}'''.encode(), {
    "Authorization": f"Bearer {os.environ['NARTHEX_KEY']}",
    "Content-Type": "application/json",
})
print(urllib.request.urlopen(request).read().decode())`,
  Agents: `The gateway at ${location.origin} does work for you. Send "Authorization: Bearer $NARTHEX_KEY".
1. GET /v1/capabilities: what can be done, each with its input_schema.
2. POST /v1/contexts {"capability": …, "parameters": …} does it. 200: it has ended, see "status", "result", "error".
   202: it goes on; GET the address in the header Location with "Prefer: wait=30".
3. If "status" is input_required, POST {"input": …} to that address followed by /input.
All of it: ${location.origin}/openapi.json`,
});

export async function connect({ view }) {
  const offers = (may("services:read") && (await maybe("/v1/capabilities"))?.data) || [];
  const [choice, shown] = [h("select", { id: "choice", onchange: draw }, offers.map(({ name }) => h("option", name))), h("div.halves")];
  function draw() {
    const { name = "word_count", input_schema } = offers.find(({ name }) => name === choice.value) ?? {};
    const body = JSON.stringify({ capability: name, parameters: example(input_schema) });
    fill(shown, Object.entries(lines(`${location.origin}/v1/contexts`, body)).map(([name, text]) => section(name, block(name, text))));
  }
  draw();
  fill(view, h("h1", "Connect"), h("p", "This gateway's address is in these lines. Put ", link("a key", "#/access/keys"), " of the role caller into the environment variable ", h("code", "NARTHEX_KEY"), ", one for each program."),
    offers.length > 0 && h("div.field.narrow", h("label", { for: "choice" }, "Capability"), choice), shown,
    h("p.soft", "The whole contract: ", link("openapi.json", "/openapi.json"), ", ", link("asyncapi.json", "/asyncapi.json")));
}
