// @ts-check
// How the program speaks to the gateway that it runs: `workerd test` makes one request to the socket in the data
// folder, so that nothing but workerd is needed. What it logs is the response.

const RETRY_MS = 50;
/** How long a question may take; a start and a stop may take longer. */
const TIMEOUT_MS = 5_000;

/** Retries while the gateway does not listen yet. @param {any} env @param {number} until */
async function ask(env, until) {
  const [method = "GET", path = "/health", header] = String(env.REQUEST ?? "").split(" ");
  for (;;) {
    try {
      const signal = method === "GET" ? AbortSignal.timeout(TIMEOUT_MS) : null;
      const headers = header ? { [header]: "yes" } : {};
      return await env.GATEWAY.fetch(`http://narthex${path}`, { method, headers, signal });
    } catch (error) {
      if (Date.now() >= until) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

export default {
  /** @param {unknown} _controller @param {any} env */
  async test(_controller, env) {
    const response = await ask(env, Date.now() + 1000 * Number(env.WAIT ?? 0));
    console.log((await response.text()).trim());
    if (!response.ok) throw new Error(`status ${response.status}`);
  },
};
