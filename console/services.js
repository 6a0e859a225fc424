// Services: the list, and first steps where there is none.
import { ask, deployment, get, may } from "./api.js";
import { badge, button, duration, fill, h, link, title } from "./dom.js";
import { healthStrip, watchHealth } from "./health.js";
import { steady } from "./steady.js";
import { spreads } from "./usage.js";

const writes = () => may("services:write");

export async function services({ view, signal }) {
  const history = watchHealth(signal, load);
  const list = h("ul.grid.plain");
  let medians = new Map();
  let empty;
  const rows = steady({ list, name: "Services", signal, build: (one) => card(one, medians.get(one.id), history) });
  async function load() {
    const [{ data }, known] = await Promise.all([get("/v1/services"), spreads().catch(() => medians)]);
    medians = known;
    if (data.length === 0) {
      empty ??= welcome();
      if (!empty.isConnected) fill(view, heading(), empty);
      return;
    }
    if (!list.isConnected) fill(view, heading(), h("div", h("div.floating", rows.news), list));
    rows.show(data);
  }
  await load();
}

const heading = () => title("Services", writes() && link("Register a service", "#/services/new", "button primary"));

/** What is known of its speed: the last 24 hours where that may be read, else the latest calls. */
const median = ({ latency_ms }, spread) =>
  typeof spread?.p50 === "number" ? `median ${duration(spread.p50)} in 24 hours` : `median ${duration(latency_ms)}`;

function card(one, spread, history) {
  const { id, name, status, capabilities, breaker, isGone } = one;
  return h(
    "li",
    { "data-key": id, class: isGone && "gone" },
    h(
      "a.card.stack",
      { href: `#/services/${id}` },
      h("span.title", h("strong", name), badge(isGone ? "gone" : status)),
      h("span.soft", `${id} · ${capabilities.map((each) => each.name).join(", ")}`),
      healthStrip(history, one),
      h("span.soft", `Breaker ${breaker.state.replace("_", " ")} · ${median(one, spread)}`),
    ),
  );
}

async function startDemo(body) {
  await ask("PUT", "/v1/services/demo", { body, headers: { "if-none-match": "*" } });
  location.hash = "#/services/demo";
}

/** What to do first. */
export function welcome() {
  const demo = h("div.stack");
  async function offer() {
    // A deployment may have switched it off.
    if (!(await deployment()).demo) return;
    const document = await get("/demo.json");
    fill(
      demo,
      h("p", "Nothing at hand? A demonstration is built in, and can be deleted again."),
      button("Start the demonstration", () => startDemo(document)),
    );
  }
  if (writes()) void offer().catch(() => {});
  return h(
    "div.card.stack.narrow",
    h("h2", "Nothing here yet"),
    h(
      "ol",
      h("li", h("strong", "Register a service"), ": its address, and what it can do."),
      h("li", h("strong", "Try it"), " on its page. You see it here, live."),
      h("li", link("Connect", "#/connect"), " your programs, each with a key of its own."),
    ),
    writes()
      ? h("p", link("Register a service", "#/services/new", "button primary"))
      : h("p.note", "Your key may not register services. One with the role operator may."),
    demo,
  );
}
