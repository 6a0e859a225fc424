// Certificates for HTTPS on this machine.
import { execFileSync } from "node:child_process";
import { join } from "node:path";

/** Writes a certificate for 127.0.0.1, its own authority, and its key into a folder; returns their paths. */
export function pairOf(folder: string): { cert: string; key: string } {
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const form = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...form, ...names, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { cert, key };
}
