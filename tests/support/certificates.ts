// Certificates for HTTPS on this machine.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";

export type Pair = { cert: string; key: string };

/** Writes a certificate for 127.0.0.1, its own authority, and its key into a folder; returns their paths. */
export function pairOf(folder: string): Pair {
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const form = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...form, ...names, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { cert, key };
}

/** Starts a service with this certificate, whose result is always 1; it stops with the test. Returns its origin. */
export async function secureService(t: TestContext, { cert, key }: Pair): Promise<string> {
  const service = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
    request.resume().on("end", () => response.setHeader("content-type", "application/json").end('{"result":1}'));
  }).listen(0, "127.0.0.1");
  t.after(() => (service.close(), service.closeAllConnections()));
  await once(service, "listening");
  return `https://127.0.0.1:${(service.address() as AddressInfo).port}`;
}
