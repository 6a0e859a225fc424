// The pages of `GET /v1/services` and `GET /v1/capabilities`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await startGateway();
  // Not in their order.
  for (const id of ["e", "a", "d", "b", "c"]) {
    const capabilities = [
      { name: `of-${id}`, input_schema: { title: id } },
      { name: "shared", version: "1.0.0" },
      { name: "shared", version: id === "c" ? "1.10.0" : "1.9.0" },
    ];
    await register(
      gateway,
      id,
      serviceAt("http://127.0.0.1:9/", capabilities, { tags: [id < "d" ? "early" : "late"] }),
    );
  }
});
after(() => gateway.stop());

/** Follows `next_cursor` to the end. Returns the pages. */
async function pages(path: string, show: (item: any) => string) {
  const found: string[][] = [];
  let address: string | null = path;
  while (address !== null) {
    const answer: any = await gateway.request("GET", address);
    assert.equal(answer.status, 200, answer.text);
    found.push(answer.json.data.map(show));
    const next: string | undefined = /^<(?<address>.*)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.groups
      ?.address;
    assert.equal(next !== undefined, answer.json.next_cursor !== null);
    if (next !== undefined) assert.ok(next.includes(encodeURIComponent(answer.json.next_cursor)), next);
    address = next ?? null;
    assert.ok(found.length < 20);
  }
  return found;
}
const id = ({ id }: any) => id;
const offer = ({ name, version, services }: any) =>
  `${name} ${version} ${services.map((one: any) => one.service).join("")}`;

test("services_come_in_the_order_of_their_ids_page_by_page", async () => {
  assert.deepEqual(await pages("/v1/services", id), [["a", "b", "c", "d", "e"]]);
  assert.deepEqual(await pages("/v1/services?limit=2", id), [["a", "b"], ["c", "d"], ["e"]]);
  assert.deepEqual(await pages("/v1/services?limit=5", id), [["a", "b", "c", "d", "e"]]);
  assert.deepEqual(await pages("/v1/services?limit=1&tag=late", id), [["d"], ["e"]]);
  assert.deepEqual(await pages("/v1/services?limit=2&capability=shared&tag=early", id), [["a", "b"], ["c"]]);
  assert.deepEqual(await pages("/v1/services?capability=of-x", id), [[]]);
});

test("capabilities_come_in_the_order_of_names_and_versions_page_by_page", async () => {
  const all = ["of-a 1.0.0 a", "of-b 1.0.0 b", "of-c 1.0.0 c", "of-d 1.0.0 d", "of-e 1.0.0 e"];
  const shared = ["shared 1.0.0 abcde", "shared 1.9.0 abde", "shared 1.10.0 c"];
  assert.deepEqual(await pages("/v1/capabilities", offer), [[...all, ...shared]]);
  assert.deepEqual(await pages("/v1/capabilities?limit=3", offer), [
    all.slice(0, 3),
    [...all.slice(3), shared[0]],
    shared.slice(1),
  ]);
  assert.deepEqual(
    await pages("/v1/capabilities?limit=1&name=shared", offer),
    shared.map((one) => [one]),
  );
  assert.deepEqual(await pages("/v1/capabilities?limit=2&service=c", offer), [
    ["of-c 1.0.0 c", "shared 1.0.0 c"],
    ["shared 1.10.0 c"],
  ]);
  const described = await gateway.request("GET", "/v1/capabilities?name=of-d");
  assert.deepEqual(described.json.data[0].input_schema, { title: "d" });
});

test("a_page_after_a_deleted_service_continues_where_it_was", async () => {
  const first = await gateway.request("GET", "/v1/services?limit=2");
  const found = await gateway.request("GET", "/v1/capabilities?limit=2");
  await register(gateway, "bb", serviceAt("http://127.0.0.1:9/", [{ name: "of-bb" }]));
  assert.equal((await gateway.request("DELETE", "/v1/services/b", { headers: { "if-match": "*" } })).status, 204);
  const rest = await gateway.request("GET", `/v1/services?limit=2&cursor=${first.json.next_cursor}`);
  assert.deepEqual(rest.json.data.map(id), ["bb", "c"]);
  const more = await gateway.request("GET", `/v1/capabilities?limit=2&cursor=${found.json.next_cursor}`);
  assert.deepEqual(
    more.json.data.map(({ name }: any) => name),
    ["of-bb", "of-c"],
  );
});

test("a_wrong_limit_and_a_cursor_of_another_list_are_refused", async () => {
  for (const list of ["services", "capabilities"]) {
    for (const limit of ["0", "1001", "-1", "1.5", "x", ""]) {
      const problem = refused(await gateway.request("GET", `/v1/${list}?limit=${limit}`), 422, "validation_failed");
      assert.deepEqual(
        problem.errors.map(({ pointer }: any) => pointer),
        ["?limit"],
      );
    }
    assert.equal((await gateway.request("GET", `/v1/${list}?limit=1000`)).status, 200);
    refused(await gateway.request("GET", `/v1/${list}?cursor=x`), 400, "invalid_request");
  }
  const { next_cursor } = (await gateway.request("GET", "/v1/services?limit=1")).json;
  assert.equal((await gateway.request("GET", `/v1/services?limit=3&cursor=${next_cursor}`)).status, 200);
  for (const path of [`/v1/services?tag=late&cursor=${next_cursor}`, `/v1/capabilities?cursor=${next_cursor}`]) {
    refused(await gateway.request("GET", path), 400, "invalid_request");
  }
  const beta = (await gateway.request("PUT", "/v1/tenants/beta", { body: { name: "Beta" } })).json.admin_key;
  refused(await gateway.request("GET", `/v1/services?cursor=${next_cursor}`, { key: beta }), 400, "invalid_request");
});

test("a_page_ends_where_it_would_be_too_large", { timeout: 120_000 }, async () => {
  const description = "x".repeat(200_000);
  const capabilities = [1, 2, 3, 4].map((at) => ({ name: `large-${at}`, input_schema: { description } }));
  // 0.8 MB each, and 20 MB together.
  const made = Array.from({ length: 25 }, (_, at) => `large-${String(at).padStart(2, "0")}`);
  for (const one of made) await register(gateway, one, serviceAt("http://127.0.0.1:9/", capabilities));
  const services = await pages("/v1/services", id);
  assert.equal(services.length, 3);
  assert.deepEqual(
    services.flat().filter((one) => one.startsWith("large")),
    made,
  );
  assert.deepEqual(services.flat().toSorted(), services.flat());
});
