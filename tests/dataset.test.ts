// Workers Analytics Engine: where a dataset is bound, each context's end is one data point.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, slow, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let failing: Service;

before(async () => {
  gateway = await startGateway({ dataset: true });
  service = await startService(slow(20));
  failing = await startService(status(500));
  const price = { per_call: "0.002", currency: "EUR" };
  await register(gateway, "worker", serviceAt(service.url, [{ price }]));
  await register(gateway, "broken", serviceAt(failing.url, [{ name: "break", idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service, failing].map((one) => one?.stop()));
});

type Point = { indexes: string[]; blobs: string[]; doubles: number[] };
const points = (): Point[] =>
  gateway.logs.filter((line) => line.startsWith("point: ")).map((line) => JSON.parse(line.slice(7)));

test("each_end_is_one_data_point_with_the_contexts_outcome", async () => {
  for (let count = 0; count < 3; count++) await create(gateway);
  const { json: failed } = await create(gateway, { capability: "break" });
  assert.equal(failed.status, "failed");
  const written = await eventually(() => (points().length >= 4 ? points() : null));
  // Anything else would have been written by now: these points follow all earlier ones.
  const last = await create(gateway);
  await gateway.request("GET", `/v1/contexts/${last.json.id}/events`);
  const all = await eventually(() => (points().length >= 5 ? points() : null));
  assert.equal(all.length, 5, JSON.stringify(all));
  const works = written.filter(({ blobs }) => blobs[0] === "worker");
  assert.equal(works.length, 3);
  for (const { indexes, blobs, doubles } of works) {
    assert.deepEqual(
      [indexes, blobs],
      [["default"], ["worker", "work", "completed", "", "key:admin", "admin", "", "EUR"]],
    );
    const [latency, queue, attempts] = doubles as [number, number, number];
    assert.deepEqual(doubles.slice(3), [0, 0, 0, 0, 0, 0.002, 0]);
    assert.ok(latency >= 20 && queue >= 0 && queue < 60_000 && attempts === 1, doubles.join());
  }
  const broken = written.find(({ blobs }) => blobs[0] === "broken");
  assert.deepEqual(broken?.blobs, ["broken", "break", "failed", "upstream_error", "key:admin", "admin", "", ""]);
  assert.equal(broken?.doubles[2], 3);
});

test("without_a_dataset_nothing_is_written_and_nothing_fails", async () => {
  const plain = await startGateway();
  try {
    await register(plain, "worker", serviceAt(service.url));
    const { json } = await create(plain);
    assert.equal(json.status, "completed");
    const { json: events } = await plain.request("GET", `/v1/contexts/${json.id}/events`);
    assert.equal(events.data.at(-1).type, "context.completed");
    assert.ok(!plain.logs.some((line) => line.startsWith("point: ") || line.includes("usage left out")));
  } finally {
    await plain.stop();
  }
});
