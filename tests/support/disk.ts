// A gateway's files: read and changed directly, while it is stopped.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** Every file of a folder, with its bytes. One that is deleted before it is read is left out. */
export function filesOf(folder: string): [name: string, bytes: Buffer][] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .flatMap((path) => {
      try {
        return [[path.slice(folder.length + 1), readFileSync(path)] as [string, Buffer]];
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        return [];
      }
    });
}

/** The number of objects of each class. */
export function countObjects(folder: string): Record<string, number> {
  const count: Record<string, number> = {};
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const [, className] = /-([A-Za-z]+)[/\\][0-9a-f]{64}\.sqlite$/.exec(entry) ?? [];
    if (className) count[className] = (count[className] ?? 0) + 1;
  }
  return count;
}

/** Each database of an object class that has this table. */
export function databases(
  folder: string,
  className: string,
  table: string,
  use: (database: DatabaseSync) => void,
): void {
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!entry.endsWith(".sqlite") || !entry.includes(className)) continue;
    // A running gateway may be writing.
    const database = new DatabaseSync(join(folder, entry), { timeout: 10_000 });
    if (database.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table)) use(database);
    database.close();
  }
}

/** Changes the registry's documents of a kind with `change`. */
export function changeDocuments(folder: string, kind: string, change: (document: any, id: string) => void): void {
  databases(folder, "Registry", "documents", (database) => {
    const write = database.prepare("UPDATE documents SET document = ? WHERE kind = ? AND id = ?");
    for (const { id, document } of database.prepare("SELECT id, document FROM documents WHERE kind = ?").all(kind)) {
      const parsed = JSON.parse(String(document));
      change(parsed, String(id));
      write.run(JSON.stringify(parsed), kind, String(id));
    }
  });
}
