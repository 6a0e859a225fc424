// The console: sign-in and screens.
import { deployment, get, keepCredential, keptCredential, session, signOut } from "./api.js";
import { button, fault, fill, h, link } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { start, stop } from "./live.js";
import { nameOf } from "./names.js";
import { begin, finish } from "./oauth.js";
import { arrive, settle } from "./places.js";

/** The screens, each loaded when it is wanted. @type {Record<string, (place: Place) => Promise<any>>} */
const SCREENS = {
  Now: async (place) => (await import("./now.js")).now(place),
  Contexts: async (place) =>
    place.id ? (await import("./context.js")).context(place) : (await import("./contexts.js")).contexts(place),
  Services: async (place) => {
    if (place.id === "new") return (await import("./register.js")).register(place);
    return place.id ? (await import("./service.js")).service(place) : (await import("./services.js")).services(place);
  },
  Access: async (place) => (await import("./access.js")).access(place),
  Connect: async (place) => (await import("./connect.js")).connect(place),
};
const SIGN_IN = {
  required: ["key"],
  properties: {
    key: { type: "string", title: "API key", format: "password", description: "It stays in this page's memory." },
    keep: {
      type: "boolean",
      default: false,
      title: "Keep me signed in",
      description: "Until you close this tab or sign out.",
    },
  },
};

/** @type {any[]} */
const [nav, main, who, state] = ["nav", "main", "#who", "#live"].map((one) => document.querySelector(one));
let leaving = new AbortController();

async function show() {
  const place = arrive();
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = location.hash.slice(2).split("?");
  // The id stays encoded: it goes into addresses.
  const [wanted, id] = path.split("/");
  const name = Object.keys(SCREENS).find((one) => one.toLowerCase() === wanted) ?? "Now";
  for (const one of nav.querySelectorAll("a")) one.ariaCurrent = one.textContent === name ? "page" : null;
  const view = h("div.screen", h("p.soft", "Loading…"));
  fill(main, view);
  try {
    await SCREENS[name]({ view, id, query: new URLSearchParams(query), signal, isReturn: place !== undefined });
  } catch (error) {
    fill(view, h("h1", name), fault(error), button("Try again", show));
  }
  if (signal.aborted) return;
  const heading = view.querySelector("h1");
  document.title = `${heading.textContent} – Narthex`;
  heading.tabIndex = -1;
  settle(place, heading);
}

/** Who has signed in: the key's name and its role, and the tenant where there are others. */
async function showWho() {
  const { principal, name, role, tenant } = session.who;
  const known = name ?? (await nameOf(principal)) ?? principal;
  const where = tenant === "default" ? "" : ` at ${tenant}`;
  const label = h("span", { title: principal }, h("strong", known), h("span.soft", ` ${role}${where}`));
  fill(
    who,
    label,
    button("Sign out", () => signOut("You have signed out."), "quiet"),
  );
}

async function signedIn() {
  session.who = await get("/v1/whoami");
  fill(
    nav,
    h(
      "ul.plain",
      Object.keys(SCREENS).map((name) => h("li", link(name, `#/${name.toLowerCase()}`))),
    ),
  );
  await showWho();
  nav.hidden = state.hidden = false;
  start((kind, text) => Object.assign(state, { className: kind, textContent: text }));
  addEventListener("hashchange", show);
  await show();
}

async function signIn(why = "") {
  leaving.abort();
  stop();
  removeEventListener("hashchange", show);
  nav.hidden = state.hidden = true;
  fill(who);
  document.title = "Sign in – Narthex";
  const form = formOf({
    fields: fieldsFor(SIGN_IN, ""),
    submit: "Sign in",
    async send({ key, keep }) {
      keepCredential({ bearer: key.trim() }, keep);
      await signedIn().catch((error) => {
        keepCredential(undefined);
        throw error;
      });
    },
  });
  fill(
    main,
    h(
      "div.card.signin.stack",
      h("h1", "Sign in"),
      why && h("p.note", { role: "alert" }, why),
      form,
      h("p.soft", "The first key is ADMIN_KEY: npm start prints it; in production you have set it yourself."),
    ),
  );
  form.querySelector("input").focus();
  const { oauth } = await deployment();
  if (oauth) form.after(button("Sign in with OAuth", () => begin(form.querySelector("[type=checkbox]").checked)));
}

session.ended = signIn;
try {
  const { credential, kept } = (await finish()) ?? { credential: keptCredential(), kept: true };
  if (credential) keepCredential(credential, kept);
  await (credential ? signedIn() : signIn());
} catch (error) {
  await signIn(error.message);
}
