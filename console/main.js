// The console's entry point: signs in, and shows the screen that the address names.
import { get } from "./api.js";
import { button, errorAlert, link, messageOf } from "./components.js";
import { fill, h } from "./dom.js";
import { startStream, stopStream } from "./live.js";
import { arrive, restorePlace } from "./navigation.js";
import { finishSignIn } from "./oauth.js";
import { nameOf } from "./principals.js";
import { currentIdentity, onSignOut, setCredential, setIdentity, signOut, storedCredential } from "./session.js";
import { buildSignInCard, buildSignInForm, offerOAuth } from "./sign-in.js";

/** The screens, each loaded when it is first opened. @satisfies {Record<string, (visit: Visit) => Promise<void>>} */
const SCREENS = {
  async Now(visit) {
    const { now } = await import("./now.js");
    await now(visit);
  },
  async Contexts(visit) {
    if (visit.id) {
      const { context } = await import("./context.js");
      await context(visit);
    } else {
      const { contexts } = await import("./contexts.js");
      await contexts(visit);
    }
  },
  async Services(visit) {
    if (visit.id === "new") {
      const { register } = await import("./register.js");
      await register(visit);
    } else if (visit.id) {
      const { service } = await import("./service.js");
      await service(visit);
    } else {
      const { services } = await import("./services.js");
      await services(visit);
    }
  },
  async Models(visit) {
    if (visit.id) {
      const { model } = await import("./model.js");
      await model(visit);
    } else {
      const { models } = await import("./models.js");
      await models(visit);
    }
  },
  async Access(visit) {
    const { access } = await import("./access.js");
    await access(visit);
  },
  async Connect(visit) {
    const { connect } = await import("./connect.js");
    await connect(visit);
  },
};

const SCREEN_NAMES = /** @type {(keyof typeof SCREENS)[]} */ (Object.keys(SCREENS));

/**
 * An element of index.html.
 * @param {string} selector
 * @returns {HTMLElement}
 */
function pageElement(selector) {
  const element = document.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`index.html has no ${selector}`);
  return element;
}

const navigation = pageElement("nav");
const main = pageElement("main");
const account = pageElement("#account");
const connection = pageElement("#connection");

/** Aborted when the user leaves the current screen. */
let leaving = new AbortController();

/** @returns {AbortSignal} of the next screen */
function leaveScreen() {
  leaving.abort();
  leaving = new AbortController();
  return leaving.signal;
}

/**
 * Parses the address. The id stays encoded, as it is used in addresses only.
 * @returns {{ name: keyof typeof SCREENS, id: string | undefined, query: URLSearchParams }}
 */
function readAddress() {
  const [path = "", query] = location.hash.slice(2).split("?");
  const [screen, id] = path.split("/");
  const name = SCREEN_NAMES.find((known) => known.toLowerCase() === screen) ?? "Now";
  return { name, id, query: new URLSearchParams(query) };
}

/**
 * Shows the screen that the address names.
 * @returns {Promise<void>}
 */
async function showScreen() {
  const place = arrive();
  const signal = leaveScreen();
  const { name, id, query } = readAddress();
  markCurrent(name);
  const view = h("div.screen", h("p.soft", "Loading…"));
  fill(main, view);
  try {
    await SCREENS[name]({ view, id, query, signal, isReturn: place !== undefined });
  } catch (error) {
    fill(view, h("h1", name), errorAlert(error), button("Try again", showScreen));
  }
  if (signal.aborted) return;
  const heading = view.querySelector("h1");
  if (!heading) return;
  document.title = `${heading.textContent} – Narthex`;
  heading.tabIndex = -1;
  restorePlace(place, heading);
}

/**
 * @param {string} name
 * @returns {void}
 */
function markCurrent(name) {
  for (const screenLink of navigation.querySelectorAll("a")) {
    screenLink.ariaCurrent = screenLink.textContent === name ? "page" : null;
  }
}

/** @returns {void} */
function showNavigation() {
  const items = SCREEN_NAMES.map((name) => h("li", link(name, `#/${name.toLowerCase()}`)));
  fill(navigation, h("ul.plain", items));
}

/**
 * Shows who is signed in: the key's name and role, and the tenant unless it is the default one.
 * @returns {Promise<void>}
 */
async function showAccount() {
  const identity = currentIdentity();
  if (!identity) return;
  const { principal, name, role, tenant } = identity;
  const shownName = name ?? (await nameOf(principal)) ?? principal;
  const shownTenant = tenant === "default" ? "" : ` at ${tenant}`;
  fill(
    account,
    h("span", { title: principal }, h("strong", shownName), h("span.soft", ` ${role}${shownTenant}`)),
    button("Sign out", () => signOut("You have signed out."), { kind: "quiet" }),
  );
}

/**
 * Loads the identity behind the credential and shows the console.
 * @returns {Promise<void>}
 */
async function openConsole() {
  setIdentity(await get("/v1/whoami"));
  showNavigation();
  await showAccount();
  navigation.hidden = false;
  connection.hidden = false;
  startStream((state, text) => {
    connection.className = state;
    connection.textContent = text;
  });
  addEventListener("hashchange", showScreen);
  await showScreen();
}

/**
 * @param {string} key
 * @param {boolean} keepForTab
 * @returns {Promise<void>}
 */
async function signInWithKey(key, keepForTab) {
  setCredential({ bearer: key }, keepForTab);
  try {
    await openConsole();
  } catch (error) {
    setCredential(undefined);
    throw error;
  }
}

/**
 * Shows the sign-in form instead of the console.
 * @param {string} [reason]
 * @returns {Promise<void>}
 */
async function showSignIn(reason = "") {
  leaveScreen();
  stopStream();
  removeEventListener("hashchange", showScreen);
  navigation.hidden = true;
  connection.hidden = true;
  fill(account);
  document.title = "Sign in – Narthex";
  const form = buildSignInForm(signInWithKey);
  fill(main, buildSignInCard(form, reason));
  form.querySelector("input")?.focus();
  await offerOAuth(form);
}

/** @returns {Promise<void>} */
async function start() {
  onSignOut(showSignIn);
  try {
    const signIn = (await finishSignIn()) ?? { credential: storedCredential(), isKept: true };
    if (!signIn.credential) return await showSignIn();
    setCredential(signIn.credential, signIn.isKept);
    await openConsole();
  } catch (error) {
    await showSignIn(messageOf(error));
  }
}

await start();
