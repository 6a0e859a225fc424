// The console: sign-in and screens.
import { access } from "./access.js";
import { get, keepCredential, keptCredential, session, signOut } from "./api.js";
import { connect } from "./connect.js";
import { context, contexts } from "./contexts.js";
import { button, fault, fill, h, link } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { start, stop } from "./live.js";
import { now } from "./now.js";
import { begin, discover, finish } from "./oauth.js";
import { register } from "./register.js";
import { service, services } from "./services.js";

/** @type {Record<string, (place: Place) => Promise<unknown>>} */
const SCREENS = {
  Now: now,
  Contexts: (place) => (place.id ? context : contexts)(place),
  Services: (place) => (place.id === "new" ? register : place.id ? service : services)(place),
  Access: access,
  Connect: connect,
};
const SIGN_IN = {
  required: ["key"],
  properties: {
    key: { type: "string", title: "API key", format: "password", description: "It stays in this page's memory." },
    keep: { type: "boolean", title: "Keep me signed in", description: "Until you close this tab or sign out." },
  },
};

/** @type {any[]} */
const [nav, main, who, state] = ["nav", "main", "#who", "#live"].map((one) => document.querySelector(one));
let leaving = new AbortController();

async function show() {
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
    await SCREENS[name]({ view, id, query: new URLSearchParams(query), signal });
  } catch (error) {
    fill(view, h("h1", name), fault(error), button("Try again", show));
  }
  if (signal.aborted) return;
  const heading = view.querySelector("h1");
  document.title = `${heading.textContent} – Narthex`;
  heading.tabIndex = -1;
  heading.focus();
}

async function signedIn() {
  session.who = await get("/v1/whoami");
  fill(nav, h("ul.plain", Object.keys(SCREENS).map((name) => h("li", link(name, `#/${name.toLowerCase()}`)))));
  fill(who, h("span", session.who.principal), button("Sign out", () => signOut("You have signed out."), "quiet"));
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
    fields: fieldsFor(SIGN_IN, ""), submit: "Sign in",
    async send({ key, keep }) {
      keepCredential({ bearer: key.trim() }, keep);
      await signedIn().catch((error) => { keepCredential(undefined); throw error; });
    },
  });
  fill(main, h("div.card.signin.stack", h("h1", "Sign in"), why && h("p.note", { role: "alert" }, why), form,
    h("p.soft", "The first key is ADMIN_KEY: npm start prints it; in production you have set it yourself.")));
  form.querySelector("input").focus();
  const server = await discover();
  if (server) form.after(button("Sign in with OAuth", () => begin(server.authorization_endpoint, form.querySelector("[type=checkbox]").checked)));
}

session.ended = signIn;
try {
  const { credential, kept } = (await finish()) ?? { credential: keptCredential(), kept: true };
  if (credential) keepCredential(credential, kept);
  await (credential ? signedIn() : signIn());
} catch (error) {
  await signIn(error.message);
}
