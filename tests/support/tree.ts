// A folder of files that a check of the sources is run over.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";

/** An empty folder until the end of the test, and how to write a file in it. */
export function temporaryTree(t: TestContext): { folder: string; write: (path: string, text: string) => void } {
  const folder = mkdtempSync(join(tmpdir(), "narthex-tree-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  return { folder, write };
}
