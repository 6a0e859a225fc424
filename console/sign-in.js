// The sign-in form, with an API key or OAuth.
import { getDeployment } from "./api.js";
import { button } from "./components.js";
import { h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { beginSignIn } from "./oauth.js";

const FIELDS = {
  required: ["key"],
  properties: {
    key: { type: "string", title: "API key", format: "password", description: "Stays in this page's memory." },
    keep: {
      type: "boolean",
      default: false,
      title: "Keep me signed in",
      description: "Until you close this tab or sign out.",
    },
  },
};

/**
 * @param {(key: string, keepForTab: boolean) => Promise<void>} signIn
 * @returns {HTMLFormElement}
 */
export function buildSignInForm(signIn) {
  return buildForm({
    fields: fieldsFor(FIELDS, ""),
    submitLabel: "Sign in",
    send: ({ key, keep }) => signIn(key.trim(), keep),
  });
}

/**
 * @param {HTMLFormElement} form
 * @param {string} reason why to sign in (again), if there is something to say
 * @returns {HTMLElement}
 */
export function buildSignInCard(form, reason) {
  const hint = "The first key is ADMIN_KEY: npm start prints it; in production, it is the one that you set.";
  return h(
    "div.card.signin.stack",
    h("h1", "Sign in"),
    reason && h("p.note", { role: "alert" }, reason),
    form,
    h("p.soft", hint),
  );
}

/**
 * Offers OAuth below the form, if the deployment has it.
 * @param {HTMLFormElement} form
 * @returns {Promise<void>}
 */
export async function offerOAuth(form) {
  const { oauth } = await getDeployment();
  if (!oauth) return;
  /** @type {HTMLInputElement | null} */
  const keep = form.querySelector("[type=checkbox]");
  form.after(button("Sign in with OAuth", () => beginSignIn(keep?.checked ?? false)));
}
