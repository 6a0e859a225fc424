// Chromium for the console's tests: CHROME_PATH, the machine's own, or the one from the npm packages, in this order.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { type Browser, chromium } from "playwright-core";
import { root } from "./configuration.ts";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const INSTALLED = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The program and its environment. */
type Program = { path: string; env: Record<string, string> };

/** A font configuration with the machine's fonts and those in `folder`, the package's, which suffice by themselves. */
const fontsOf = (folder: string) => `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<dir>${folder}</dir><dir>/usr/share/fonts</dir><cachedir>${folder}/cache</cachedir>
${Object.entries({ "system-ui": "Open Sans", "sans-serif": "Open Sans", monospace: "DejaVu Sans Mono" })
  .map(
    ([family, font]) =>
      `<alias binding="same"><family>${family}</family><prefer><family>${font}</family></prefer></alias>`,
  )
  .join("\n")}
</fontconfig>`;

/**
 * The package always unpacks into the folder for temporary files. This runs in a process of its own, as that folder is
 * one for a whole process, and gateways that start at the same time have their state in it.
 */
const UNPACK = `import { inflate } from "@sparticuz/chromium";
for (const part of process.argv.slice(1)) await inflate(part);`;
const run = promisify(execFile);

/** The package, unpacked once for this machine, with libraries and fonts that a machine without a browser may lack. */
async function packaged(): Promise<Program> {
  const home = join(root, "node_modules/@sparticuz/chromium");
  const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
  const caches = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex");
  const folder = join(caches, `chromium-${version}`);
  if (!existsSync(folder)) {
    console.error(`unpacking Chromium ${version}, once for this machine …`);
    mkdirSync(caches, { recursive: true });
    const fresh = mkdtempSync(join(caches, "unpacking-"));
    const parts = ["chromium.br", "fonts.tar.br", "al2023.tar.br"].map((part) => join(home, "bin", part));
    const env = { ...process.env, TMPDIR: fresh };
    await run(process.execPath, ["--input-type=module", "-e", UNPACK, ...parts], { cwd: root, env });
    writeFileSync(join(fresh, "fonts/fonts.conf"), fontsOf(join(folder, "fonts")));
    // Complete or not at all, even if two processes do it at once.
    if (existsSync(folder)) rmSync(fresh, { recursive: true });
    else renameSync(fresh, folder);
  }
  const libraries = [join(folder, "al2023/lib"), process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);
  return {
    path: join(folder, "chromium"),
    env: { LD_LIBRARY_PATH: libraries, FONTCONFIG_PATH: join(folder, "fonts") },
  };
}

async function program(): Promise<Program> {
  const path = process.env.CHROME_PATH || INSTALLED.find((one) => existsSync(one));
  return path ? { path, env: {} } : packaged();
}

/** Why this machine has no browser; undefined if it has one. */
export function missing(): string | undefined {
  if (process.env.CHROME_PATH || process.env.CI || INSTALLED.some((one) => existsSync(one))) return undefined;
  if (process.platform === "linux" && process.arch === "x64") return undefined;
  return `no Chromium for ${process.platform} ${process.arch}: set CHROME_PATH to one`;
}

export async function startBrowser(): Promise<Browser> {
  const { path, env } = await program();
  return chromium.launch({
    executablePath: path,
    args: FLAGS,
    env: { ...process.env, ...env } as Record<string, string>,
  });
}
