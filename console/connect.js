// Ready lines to call this gateway from elsewhere.
import { may, maybe } from "./api.js";
import { block, fill, h, link } from "./dom.js";
import { example } from "./schema.js";

/** A text as Python writes it: JSON's strings are strings there, too. */
const pythonText = (body) => (body.includes("'''") ? JSON.stringify(body) : `r'''${body}'''`);

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

request = urllib.request.Request("${url}", ${pythonText(body)}.encode(), {
    "Authorization": f"Bearer {os.environ['NARTHEX_KEY']}",
    "Content-Type": "application/json",
})
print(urllib.request.urlopen(request).read().decode())`,
  "Claude Code": `claude mcp add --transport http narthex ${location.origin}/mcp \\
  --header "Authorization: Bearer $NARTHEX_KEY"`,
  Agents: JSON.stringify({
    mcpServers: {
      narthex: { type: "http", url: `${location.origin}/mcp`, headers: { Authorization: "Bearer ${NARTHEX_KEY}" } },
    },
  }),
});

export async function connect({ view }) {
  const offers = (may("services:read") && (await maybe("/v1/capabilities"))?.data) || [];
  // A name may be there in several versions.
  const isOnly = ({ name }) => offers.filter((one) => one.name === name).length === 1;
  const nameOf = (offer) => (isOnly(offer) ? offer.name : `${offer.name} ${offer.version}`);
  const choice = h(
    "select",
    { id: "choice", onchange: draw },
    offers.map((offer, at) => h("option", { value: at }, nameOf(offer))),
  );
  const shown = h("div.stack");

  function draw() {
    const offer = offers[Number(choice.value)];
    const { name = "word_count", version, input_schema } = offer ?? {};
    const body = JSON.stringify({
      capability: name,
      ...(offer && !isOnly(offer) && { version: `=${version}` }),
      parameters: example(input_schema),
    });
    fill(
      shown,
      Object.entries(lines(`${location.origin}/v1/contexts`, body)).map(([title, text]) => block(title, text)),
    );
  }

  draw();
  const how = h(
    "p",
    "Put ",
    link("a key", "#/access/keys"),
    " of the role caller, one for each program, into the environment variable NARTHEX_KEY.",
  );
  fill(
    view,
    h("h1", "Connect"),
    how,
    offers.length > 0 && h("div.field.narrow", h("label", { for: "choice" }, "Capability"), choice),
    shown,
    h(
      "p.soft",
      "The whole contract: ",
      link("openapi.json", "/openapi.json"),
      ", ",
      link("asyncapi.json", "/asyncapi.json"),
    ),
  );
}
