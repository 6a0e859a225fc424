// `narthex serve` and workerd are killed: nothing acknowledged is lost, and the folder has one process at a time.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, test } from "node:test";
import { accepted, ended, eventually, many, obedient, register, serviceAt } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { isRunning } from "./support/processes.ts";
import { gone, killed, newFolder, notHere, run, type Served, serve, type ServeOptions } from "./support/serve.ts";
import { gate, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

const services: Service[] = [];
after(() => Promise.all(services.map((service) => service.stop())));

/** A gateway with a service of idempotent work. */
async function place(options: ServeOptions = {}): Promise<{ gateway: Served; service: Service }> {
  const [gateway, service] = await Promise.all([serve(options), startService(obedient)]);
  services.push(service);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
  return { gateway, service };
}

const again = ({ data, port }: Served, options: ServeOptions = {}) => serve({ data, port, ...options });

describe("after a kill", { concurrency: 3, skip: notHere }, () => {
  for (const what of ["the_program", "workerd", "both"] as const) {
    test(`of_${what}_every_accepted_context_ends`, async (t) => {
      const { gateway, service } = await place({ env: { TIME_SCALE: "0.2" } });
      const held = gate(obedient);
      t.after(held.open);
      service.handler = held.handler;
      const made = await many(20, () => accepted(gateway, {}));
      await service.call(0);
      const [program, workerd] = [gateway.pid, await gateway.workerd()];
      if (what !== "workerd") process.kill(program, "SIGKILL");
      if (what !== "the_program") await killed(workerd);
      // It dies with the program.
      await gone(workerd);
      service.handler = obedient;
      held.open();
      let next = gateway;
      if (what === "workerd") await gateway.says(/serves again/);
      else next = await again(gateway);
      for (const { id } of made) assert.equal((await ended(next, id)).status, "completed");
      assert.equal((await next.stop()).code, 0);
      assert.ok(!isRunning(workerd));
    });
  }

  test("workerd_is_started_again_each_time_and_clients_connect_again", async () => {
    const { gateway } = await place();
    const dead = new Set<number>();
    for (const pause of [1, 1, 1]) {
      const events = await openEvents(gateway);
      const workerd = await gateway.workerd();
      assert.ok(!dead.has(workerd));
      dead.add(workerd);
      const since = gateway.said().length;
      await killed(workerd);
      await events.closed;
      await gateway.says(new RegExp(`workerd has ended \\(status 137\\) and is started again in ${pause} s`), since);
      await gateway.says(/serves again/, since);
      const { id } = await accepted(gateway, {});
      assert.equal((await ended(gateway, id)).status, "completed");
    }
    await gateway.stop();
  });

  test("the_alarm_of_the_sweeper_is_kept", async () => {
    const { gateway, service } = await place();
    const run_at = new Date(Date.now() + 3000).toISOString();
    const { id } = await accepted(gateway, { run_at });
    const { pid } = gateway;
    const workerd = await gateway.workerd();
    await killed(pid);
    await gone(workerd);
    assert.ok(alarmsOf(gateway.data, "Sweeper") > 0, "the sweeper has an alarm");
    // Nothing but a sweep finds the context now.
    databases(gateway.data, "ContextStore", "_cf_ALARM", (database) => void database.exec("DELETE FROM _cf_ALARM"));
    await eventually(() => Date.now() > Date.parse(run_at));
    const next = await again(gateway);
    await service.call(0);
    assert.equal((await ended(next, id)).status, "completed");
    await next.stop();
  });

  test("a_stale_lock_socket_and_id_do_not_matter", async () => {
    const { gateway } = await place();
    const workerd = await gateway.workerd();
    await killed(gateway.pid);
    await gone(workerd);
    const left = Object.fromEntries(
      ["pid", "workerd.pid"].map((name) => [name, Number(readFileSync(join(gateway.data, "run", name), "utf8"))]),
    );
    assert.deepEqual(left, { pid: gateway.pid, "workerd.pid": workerd });
    const next = await again(gateway);
    assert.equal((await next.request("GET", "/v1/services/worker")).status, 200);
    await next.stop();
  });
});

/** How many alarms objects of a class have. */
function alarmsOf(data: string, className: string): number {
  let count = 0;
  const add = (database: DatabaseSync) =>
    void (count += Number(database.prepare("SELECT count(*) AS n FROM _cf_ALARM").get()!.n));
  databases(data, className, "_cf_ALARM", add);
  return count;
}

describe("a second process", { concurrency: 3, skip: notHere }, () => {
  test("on_the_same_folder_is_refused_with_the_id_of_the_first", async () => {
    const gateway = await serve();
    const linked = join(newFolder(), "linked");
    symlinkSync(gateway.data, linked);
    for (const data of [gateway.data, linked]) {
      const { code, err } = await run(["serve", "--data", data, "--listen", "127.0.0.1:1"]);
      assert.equal(code, 1);
      assert.match(err, new RegExp(`another process serves ${gateway.data}: ${gateway.pid}$`, "m"));
    }
    assert.equal((await gateway.request("GET", "/health")).status, 200);
    assert.equal(Number(readFileSync(join(gateway.data, "run/pid"), "utf8")), gateway.pid);
    await gateway.stop();
  });

  test("on_the_same_port_is_refused_and_the_first_keeps_it", async () => {
    const gateway = await serve();
    const { code, err } = await run(["serve", "--data", newFolder(), "--listen", `127.0.0.1:${gateway.port}`]);
    assert.equal(code, 1);
    assert.match(err, /another process listens on/);
    assert.equal((await gateway.request("GET", "/v1/whoami")).status, 200);
    await gateway.stop();
  });

  test("that_takes_the_port_while_workerd_is_started_again_is_named_and_waited_for", async (t) => {
    const gateway = await serve();
    const workerd = await gateway.workerd();
    // Until the port is taken, the program must not start workerd again.
    process.kill(gateway.pid, "SIGSTOP");
    await killed(workerd);
    const thief = createServer().listen(gateway.port, "127.0.0.1");
    t.after(() => thief.close());
    await once(thief, "listening");
    process.kill(gateway.pid, "SIGCONT");
    await gateway.says(/cannot serve: another process listens on .*; the next try is in \d s/);
    thief.close();
    await gateway.says(/serves again/);
    assert.equal((await gateway.request("GET", "/health")).status, 200);
    await gateway.stop();
  });

  test("started_at_the_same_moment_on_a_new_folder_leaves_one", async () => {
    const data = newFolder();
    const both = await Promise.allSettled([serve({ data }), serve({ data })]);
    const served = both.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    assert.equal(served.length, 1, both.map((one) => (one as PromiseRejectedResult).reason ?? "serves").join("\n"));
    assert.equal((await served[0]!.request("GET", "/v1/whoami")).status, 200);
    await served[0]!.stop();
  });
});

describe("another key than the one that encrypted the data", { skip: notHere }, () => {
  test("is_named_and_nothing_is_served", async () => {
    const gateway = await serve();
    await gateway.stop();
    const path = join(gateway.data, "secrets/KEK_1");
    const right = readFileSync(path, "utf8");
    writeFileSync(path, `${Buffer.alloc(32, 1).toString("base64")}\n`);
    const { code, err } = await run(["serve", "--data", gateway.data]);
    assert.equal(code, 1);
    assert.match(err, /KEK_1 is another key than the one that has encrypted .*: restore it/);
    writeFileSync(path, right.replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_"));
    const next = await again(gateway, { env: { KEK_2: Buffer.alloc(32, 2).toString("base64") } });
    assert.equal((await next.request("GET", "/v1/whoami")).status, 200);
    await next.stop();
    const third = await run(["serve", "--data", gateway.data], {
      env: { KEK_2: Buffer.alloc(32, 3).toString("base64") },
    });
    assert.match(third.err, /KEK_2 is another key/);
  });
});
