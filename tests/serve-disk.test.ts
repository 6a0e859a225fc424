// `narthex serve` on a disk that fills: nothing acknowledged is lost, and it recovers by itself.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { ended, eventually, obedient, register, serviceAt } from "./support/arrange.ts";
import type { Client } from "./support/client.ts";
import { gone, killed, newFolder, notHere, serve, startServing } from "./support/serve.ts";
import { type Service, startService } from "./support/service.ts";

const services: Service[] = [];
const mounted: string[] = [];
after(async () => {
  await Promise.all(services.map((service) => service.stop()));
  for (const folder of mounted) execFileSync("umount", ["-l", folder]);
});

/** A small file system of its own; undefined if this user may not mount one. */
function smallDisk(): string | undefined {
  const folder = newFolder();
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64m", "narthex-test", folder], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  mounted.push(folder);
  process.once("exit", () => {
    for (const one of mounted) execFileSync("sh", ["-c", 'umount -l "$0" 2>/dev/null || :', one]);
  });
  return folder;
}

/** Fills the disk to the last byte. */
function fill(folder: string): void {
  const file = openSync(join(folder, "filler"), "a");
  for (let size = 1 << 20; size >= 1;) {
    try {
      if (writeSync(file, Buffer.alloc(size)) < size) size = Math.floor(size / 2);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      size = Math.floor(size / 2);
    }
  }
  closeSync(file);
}
const free = (folder: string) => rmSync(join(folder, "filler"));

/** Creates contexts until some were refused; returns the ids of those that were accepted. */
async function createUntilFull(gateway: Client): Promise<string[]> {
  const ids: string[] = [];
  for (let refused = 0; refused < 10;) {
    const answer = await gateway.request("POST", "/v1/contexts", {
      body: { capability: "work", parameters: { text: "x".repeat(20_000) } },
      headers: { prefer: "respond-async" },
      contract: false,
    });
    if (answer.status === 202) ids.push(answer.json.id);
    else {
      assert.deepEqual([answer.status, answer.json.code], [503, "storage_full"], answer.text);
      assert.equal(answer.headers.get("retry-after"), "10");
      refused += 1;
    }
    assert.ok(ids.length < 5000, "the disk does not fill");
  }
  return ids;
}

/** Waits until a context is accepted and completes. */
async function works(gateway: Client): Promise<void> {
  const id = await eventually(async () => {
    const answer = await gateway.request("POST", "/v1/contexts", {
      body: { capability: "work" },
      headers: { prefer: "respond-async" },
      contract: false,
    });
    return answer.status === 202 && answer.json.id;
  });
  assert.equal((await ended(gateway, id)).status, "completed");
}

describe("a full disk", { skip: notHere }, () => {
  test("loses_nothing_that_was_acknowledged_and_is_recovered_from_by_itself", async (t) => {
    const disk = smallDisk();
    if (disk === undefined) return t.skip("this user may not mount a file system");
    const data = join(disk, "data");
    mkdirSync(data);
    const [gateway, service] = await Promise.all([serve({ data }), startService(obedient)]);
    services.push(service);
    await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
    fill(disk);
    const ids = await createUntilFull(gateway);
    assert.equal((await gateway.request("GET", "/health")).status, 200);
    free(disk);
    await works(gateway);
    for (const id of ids) assert.equal((await ended(gateway, id)).status, "completed");

    fill(disk);
    ids.push(...(await createUntilFull(gateway)));
    const workerd = await gateway.workerd();
    await killed(gateway.pid);
    await gone(workerd);
    const next = await startServing({ data, port: gateway.port });
    await next.says(/the disk of .* is full; the gateway starts when 16 MiB are free/);
    free(disk);
    await next.says(/serves on/);
    for (const id of ids) assert.equal((await ended(next, id)).status, "completed");
    await works(next);
    const { code, err } = await next.stop();
    assert.equal(code, 0, err);
  });

  test("delays_a_start_which_a_signal_ends", async (t) => {
    const disk = smallDisk();
    if (disk === undefined) return t.skip("this user may not mount a file system");
    fill(disk);
    rmSync(join(disk, "filler"));
    mkdirSync(join(disk, "data/run"), { recursive: true });
    fill(disk);
    const waiting = await startServing({ data: join(disk, "data") });
    await waiting.says(/is full/);
    const { code } = await waiting.stop();
    assert.equal(code, 0);
  });
});
