// @ts-check
// Archives whose bytes depend on nothing but the content: sorted names, one time, one owner, two modes.
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { pack } from "tar-stream";

/** Every file and folder below a folder, sorted by its bytes; paths have slashes. @param {string} folder */
const below = (folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));

/**
 * Writes a folder as `.tar.gz`. Its name is that of the top folder.
 * @param {string} path @param {string} folder @param {string} name the top folder
 * @param {number} time of all files, in seconds since 1970
 */
export async function writeArchive(path, folder, name, time) {
  const archive = pack();
  // zlib writes neither name nor time.
  const written = pipeline(archive, createGzip({ level: 6 }), createWriteStream(path));
  const owner = { uid: 0, gid: 0, uname: "root", gname: "root", mtime: new Date(time * 1000) };
  archive.entry({ ...owner, name: `${name}/`, type: "directory", mode: 0o755 });
  for (const file of below(folder)) {
    const full = join(folder, file);
    const { mode, isFolder } = kindOf(full);
    const entry = { ...owner, name: `${name}/${file}${isFolder ? "/" : ""}`, mode };
    if (isFolder) archive.entry({ ...entry, type: "directory" });
    else archive.entry({ ...entry, type: "file" }, readFileSync(full));
  }
  archive.finalize();
  await written;
}

/** The mode in an archive, whatever the umask here. @param {string} path */
function kindOf(path) {
  const stat = statSync(path);
  const isFolder = stat.isDirectory();
  return { isFolder, mode: isFolder || (stat.mode & 0o111) !== 0 ? 0o755 : 0o644 };
}

/** The SHA-256 digest of a file, in hexadecimal digits. @param {string} path */
export async function digest(path) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
