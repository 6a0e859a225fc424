// @ts-check
// Ports for servers that are started later. Imports nothing from npm.
import { createServer } from "node:net";

/** Systems take the ports of outgoing connections from 32768 on, or higher: another program could take one of those. */
const FIRST = 20_000;
/** Each process takes ports of its own share, so that two that run at once do not choose the same one. */
const SHARES = 100;
const SHARE = 100;

let next = Math.floor(Math.random() * SHARE);

/** Whether a server could listen there. @param {number} port @returns {Promise<boolean>} */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
      .on("error", () => resolve(false))
      .listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** A port that is free now, and is not taken by an outgoing connection. @returns {Promise<number>} */
export async function freePort() {
  for (;;) {
    const port = FIRST + (process.pid % SHARES) * SHARE + (next++ % SHARE);
    if (await isFree(port)) return port;
  }
}
