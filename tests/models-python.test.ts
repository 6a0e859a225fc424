// Programs written with the official Python libraries, each run twice: against a provider, and, with only the address
// and the key changed, against the gateway. What the programs see, and what the provider gets, must be the same.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { type Given, interpreter, runPrograms, skip } from "./clients/model-programs.ts";
import { eventually, makeKey } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { asChanged, asReceived } from "./support/model-calls.ts";
import { registerFormats } from "./support/model-providers.ts";
import { providerKeys, providerNames, startModelUpstream } from "./support/model-upstream.ts";
import type { Recorded, Service } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
let secret: string;

before(async () => {
  gateway = await startGateway();
  provider = await startModelUpstream();
  await registerFormats(gateway, provider, {
    openai: [{ id: "small", upstream: providerNames.small }],
    anthropic: [{ id: "haiku", upstream: providerNames.haiku }],
    hasResponses: true,
  });
  secret = (await makeKey(gateway, "caller", ["models:use:*"])).secret;
});
after(async () => {
  await gateway.stop();
  await provider.stop();
});

type Clients = Pick<Given, "url" | "keys">;
const direct = (): Clients => ({ url: provider.url.slice(0, -1), keys: providerKeys });
const through = (): Clients => ({ url: gateway.url, keys: { openai: secret, anthropic: secret } });

/**
 * Runs all programs; returns what they saw and the calls that the provider got, once none has a stream that its client
 * left.
 */
async function run(given: Given) {
  const from = provider.calls.length;
  const saw = await runPrograms(given);
  const calls = provider.calls.slice(from);
  const isOpen = (call: Recorded) => /"content":"endless"/.test(call.raw.toString()) && !call.abandoned;
  await eventually(() => !calls.some(isOpen));
  return { saw, calls };
}

for (const asynchronous of [false, true]) {
  const kind = asynchronous ? "asynchronous" : "synchronous";

  test(`programs_with_the_${kind}_python_libraries_see_the_same`, { skip }, async () => {
    const expected = await run({ ...direct(), asynchronous, set: "provider" });
    const found = await run({ ...through(), asynchronous, set: "provider" });
    assert.ok(Object.keys(expected.saw).length >= 40);
    for (const [name, saw] of Object.entries(expected.saw)) {
      assert.ok("saw" in saw, `${name}: ${JSON.stringify(saw)}`);
      assert.deepEqual(found.saw[name], saw, name);
    }
    assert.deepEqual(found.calls.map(asReceived), expected.calls.map(asChanged));
  });

  test(`the_${kind}_python_libraries_list_models_and_raise_what_the_gateway_refuses`, { skip }, async () => {
    const { models, wrong_keys, unknown_models }: any = await runPrograms({
      ...through(),
      asynchronous,
      set: "gateway",
    });
    assert.deepEqual(models, { saw: [["haiku", "small"], ["haiku", "small"], "small", "haiku"] });
    const errors = ({ saw }: any) => saw.map((error: any) => [error.name, error.status_code]);
    assert.deepEqual(errors(wrong_keys), Array(2).fill(["AuthenticationError", 401]));
    assert.deepEqual(errors(unknown_models), Array(4).fill(["NotFoundError", 404]));
  });
}

test("examples/chat_openai.py_chats_with_a_model", { skip }, async () => {
  const env = { ...process.env, NARTHEX: gateway.url, KEY: secret, MODEL: "small" };
  const { stdout } = await promisify(execFile)(interpreter, ["examples/chat_openai.py"], { cwd: root, env });
  assert.match(stdout, /^Grüße, 世界 👋: .* response\.completed\.\n$/s);
});
