// @ts-check
// What `narthex doctor` asks the network: it runs once, by `workerd test`, with the authorities of the gateway.

const TIMEOUT_MS = 5_000;

/** @param {any} network @param {string} origin */
async function ask(network, origin) {
  try {
    const { status } = await network.fetch(origin, { redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    return `ok origin ${origin} answers with status ${status}`;
  } catch (error) {
    const message = String(error instanceof Error ? error.message : error);
    // workerd says no more of a name without an address.
    const reason = message.startsWith("internal error") ? "its name has no address" : message;
    return `problem origin ${origin} cannot be reached: ${reason}`;
  }
}

export default {
  /** @param {unknown} _controller @param {any} env */
  async test(_controller, env) {
    const origins = String(env.ORIGINS ?? "")
      .split(",")
      .map((origin) => origin.trim())
      .filter(Boolean);
    for (const line of await Promise.all(origins.map((origin) => ask(env.NETWORK, origin)))) console.log(line);
  },
};
