// The documents of one kind on the screen Access or Models: listed in pages, created, edited and deleted.
import { get, getDeployment, getIfAllowed, request } from "./api.js";
import { badge, button, confirmed, link, secretShownOnce, section, toast } from "./components.js";
import { buildRow, idOf, nameOf } from "./document-row.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { documentOf, fieldPath, formSchema, formValues, KINDS, NAME_MEMBER } from "./kinds.js";
import { follow } from "./live.js";
import { may } from "./session.js";
import { SteadyList } from "./steady-list.js";

const RELOAD_MS = 200;
const ANY_VERSION = { "if-match": "*" };
const ONLY_NEW = { "if-none-match": "*" };
/** How long the old secret of a key still works after a rotation. */
const OVERLAP_SECONDS = 3600;

/** @import { KindName } from "./kinds.js" */
/** @import { AccessDocument } from "./document-row.js" */

export class DocumentList {
  #kindName;
  #kind;
  #isKeys;
  #mayWrite;
  /** The document that the address names. */
  #shownId;
  #signal;
  /** @type {AccessDocument[]} documents of the pages that were read */
  #loaded;
  /** @type {string | null} */
  #nextCursor;
  /** The document that the address names, if it is on none of these pages. @type {AccessDocument | undefined} */
  #shownApart;
  /** Where forms, secrets and notes appear. */
  #panel = h("div");
  #rowList = h("ul.rows.plain");
  #rows;

  /**
   * @param {KindName} kindName
   * @param {{ page: Page, shownId: string | null, signal: AbortSignal }} options `page`: the first one
   */
  constructor(kindName, { page, shownId, signal }) {
    this.#kindName = kindName;
    this.#kind = KINDS[kindName];
    this.#isKeys = kindName === "keys";
    this.#mayWrite = !this.#kind.schema || may(`${this.#kind.area ?? kindName}:write`);
    this.#shownId = shownId;
    this.#signal = signal;
    this.#loaded = page.data;
    this.#nextCursor = page.next_cursor;
    this.#rows = new SteadyList({
      element: this.#rowList,
      name: `${this.#kind.noun}s`,
      signal,
      buildRow: (document) => this.#buildRow(document),
      // It may be on a page that has not been loaded.
      current: (document) => (this.#nextCursor ? document : { ...document, isGone: true }),
    });
  }

  /**
   * Shows the list and keeps it up to date.
   * @param {HTMLElement} body
   * @returns {Promise<void>}
   */
  async showIn(body) {
    const { noun, about, schema } = this.#kind;
    const mayCreate = this.#mayWrite && schema;
    const create = mayCreate && button(`New ${noun}`, () => this.#edit(), { kind: "primary" });
    fill(
      body,
      h("div.title", h("p.soft", about), create),
      await this.#oauthNote(),
      this.#panel,
      h("div", h("div.floating", this.#rows.news), this.#rowList),
    );
    const isFound = await this.#findShown();
    if (!isFound) fill(this.#panel, h("p.note", `The ${noun} ${this.#shownId} no longer exists.`));
    this.#draw();
    this.#rowList.querySelector(".marked")?.scrollIntoView({ block: "center" });
    follow({
      signal: this.#signal,
      everyMs: RELOAD_MS,
      load: () => this.#load(),
      onEvent: ({ type }) => this.#isKeys && type.startsWith("key."),
    });
  }

  /**
   * Clients are of no use in a deployment without OAuth.
   * @returns {Promise<HTMLElement | undefined>}
   */
  async #oauthNote() {
    if (this.#kindName !== "clients") return undefined;
    const { oauth } = await getDeployment().catch(() => ({ oauth: true }));
    if (oauth) return undefined;
    return h("p.note", "OAuth is off in this deployment (variable OAUTH): clients get no tokens until it is on.");
  }

  /**
   * @param {string} id
   * @returns {string}
   */
  #path(id) {
    return `/v1/${this.#kindName}/${encodeURIComponent(id)}`;
  }

  /**
   * @param {string | null} [cursor]
   * @returns {Promise<Page<AccessDocument>>}
   */
  #getPage(cursor) {
    return get(`/v1/${this.#kindName}${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`);
  }

  /**
   * Reloads as many documents as were loaded before.
   * @param {boolean} [now] whether to show them at once, as after an action of the user's own
   * @returns {Promise<void>}
   */
  async #load(now = false) {
    let { data, next_cursor } = await this.#getPage();
    while (next_cursor && data.length < this.#loaded.length) {
      const page = await this.#getPage(next_cursor);
      data = [...data, ...page.data];
      next_cursor = page.next_cursor;
    }
    this.#loaded = data;
    this.#nextCursor = next_cursor;
    await this.#findShown();
    this.#draw(now);
  }

  /** @returns {Promise<void>} */
  async #loadMore() {
    const { data, next_cursor } = await this.#getPage(this.#nextCursor);
    this.#loaded = [...this.#loaded, ...data.filter((document) => !this.#isLoaded(idOf(document)))];
    this.#nextCursor = next_cursor;
    this.#draw(true);
  }

  /**
   * @param {string} id
   * @returns {boolean}
   */
  #isLoaded(id) {
    return this.#loaded.some((document) => idOf(document) === id);
  }

  /**
   * Finds the document that the address names.
   * @returns {Promise<boolean>} whether it was found
   */
  async #findShown() {
    const id = this.#shownId;
    if (!id || this.#isLoaded(id)) return true;
    this.#shownApart = await getIfAllowed(this.#path(id));
    return this.#shownApart !== undefined;
  }

  /**
   * @param {boolean} [now]
   * @returns {void}
   */
  #draw(now = false) {
    const apart = this.#shownApart;
    const documents = apart && !this.#isLoaded(idOf(apart)) ? [apart, ...this.#loaded] : this.#loaded;
    const items = documents.map((document) => ({ ...document, id: idOf(document) }));
    const empty = h("li.card.soft", { "data-key": "none" }, `No ${this.#kind.noun}s yet.`);
    const more = h(
      "li",
      { "data-key": "more" },
      button("Load more", () => this.#loadMore()),
    );
    this.#rows.show(items, { after: [items.length === 0 && empty, Boolean(this.#nextCursor) && more], now });
  }

  /**
   * @param {AccessDocument} document
   * @returns {HTMLElement}
   */
  #buildRow(document) {
    const isMarked = idOf(document) === this.#shownId;
    return buildRow(document, this.#kind.summary(document), isMarked, this.#buildActions(document));
  }

  /**
   * @param {AccessDocument} document
   * @returns {Child}
   */
  #buildActions(document) {
    if (document.isGone) return badge("gone");
    if (document.shipped) return badge("built-in");
    const { hash } = this.#kind;
    const open = hash && link("Open", hash(document), "button");
    if (!this.#mayWrite) return open;
    const mayEdit = this.#kind.schema && !this.#isKeys;
    const endLabel = mayEdit ? "Delete" : "Revoke";
    const question = `${endLabel} ${nameOf(document)}? It takes effect with the next request.`;
    return h(
      "span.row",
      open,
      this.#isKeys && button("Rotate", () => this.#rotate(document)),
      mayEdit && button("Edit", () => this.#edit(document)),
      button(endLabel, () => confirmed(question, () => this.#end(document)), { kind: "danger" }),
    );
  }

  /**
   * Shows the form that creates or edits a document.
   * @param {AccessDocument} [document]
   * @returns {Promise<void>}
   */
  async #edit(document) {
    const { noun } = this.#kind;
    const schema = await formSchema(this.#kindName, document);
    const form = buildForm({
      fields: fieldsFor(schema, "", document && formValues(this.#kindName, document)),
      submitLabel: document ? "Save" : `Create ${noun}`,
      fieldPath: (path) => fieldPath(this.#kindName, path),
      send: (values) => this.#save(values, document),
    });
    const title = document ? `Edit ${nameOf(document)}` : `New ${noun}`;
    fill(this.#panel, h("div.card", section(title, form)));
    /** @type {HTMLElement | null} */
    const firstField = this.#panel.querySelector("input, select, textarea");
    firstField?.focus();
  }

  /**
   * @param {Record<string, any>} values
   * @param {AccessDocument} [document] the one that is changed
   * @returns {Promise<void>}
   */
  async #save({ [NAME_MEMBER]: name, ...values }, document) {
    const body = documentOf(this.#kindName, values);
    const { json } = this.#isKeys
      ? await request("POST", "/v1/keys", { body })
      : await request("PUT", this.#path(document ? idOf(document) : name), {
          body,
          headers: document ? ANY_VERSION : ONLY_NEW,
        });
    fill(this.#panel, json.secret && secretShownOnce(`Secret of ${json.name}`, json.secret));
    toast("Saved.");
    await this.#load(true);
  }

  /**
   * @param {AccessDocument} key
   * @returns {Promise<void>}
   */
  async #rotate(key) {
    const body = { overlap_seconds: OVERLAP_SECONDS };
    const { json } = await request("POST", `${this.#path(idOf(key))}/rotate`, { body });
    const what = `New secret of ${nameOf(key)}; the old one works for another hour`;
    fill(this.#panel, secretShownOnce(what, json.secret));
  }

  /**
   * @param {AccessDocument} document
   * @returns {Promise<void>}
   */
  async #end(document) {
    await request("DELETE", this.#path(idOf(document)), { headers: ANY_VERSION });
    await this.#load(true);
  }
}
