// A page is bounded by its size as well as its limit: with large contexts it ends early, and its cursor continues.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ vars: { CONTEXT_SHARDS: "2" } });
  service = await startService(json({ error: { code: "no", message: "no", more: "x".repeat(4000) } }));
  await register(gateway, "one", serviceAt(service.url));
});

after(async () => {
  await gateway?.stop();
  await service?.stop();
});

test("pages_of_large_contexts_end_early_and_list_each_context_once", async () => {
  const metadata = { note: "y".repeat(8000) };
  const made = new Set<string>();
  for (let batch = 0; batch < 20; batch += 1) {
    const answers = await Promise.all(Array.from({ length: 20 }, () => create(gateway, { metadata })));
    for (const answer of answers) made.add(answer.json.id);
  }
  assert.equal(made.size, 400);
  const seen: string[] = [];
  const sizes: number[] = [];
  let path = "/v1/contexts?limit=200";
  for (let cursor: string | null = null; ;) {
    const page = await gateway.request("GET", cursor === null ? path : `${path}&cursor=${cursor}`);
    assert.equal(page.status, 200, page.text.slice(0, 300));
    assert.ok(page.text.length < 4 * 1024 * 1024, `${page.text.length} bytes`);
    seen.push(...page.json.data.map((context: any) => context.id));
    sizes.push(page.json.data.length);
    cursor = page.json.next_cursor;
    if (cursor === null) break;
  }
  assert.equal(seen.length, 400);
  assert.deepEqual(new Set(seen), made);
  const times = seen.map((id) => id.slice(8));
  assert.deepEqual(times, [...times].sort().reverse());
  // Both stores together would have returned two hundred.
  assert.ok(sizes.some((size) => size > 100) && sizes.length <= 5, sizes.join());
});
