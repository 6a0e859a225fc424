// The gateway's figures for a period, and the control that chooses the period.
import { errorAlert } from "./components.js";
import { fill, h } from "./dom.js";
import { clockTime } from "./format.js";
import { beginningOf, mayReadUsage, readFigures, readHourlyChart } from "./usage.js";

/** @import { Period } from "./usage.js" */
/** @typedef {Figures & { from: string, period: Period }} PeriodFiguresRead */

/** What the user has chosen, for as long as the page is open. @type {Period} */
let chosenPeriod = "recent";

/** @returns {string} */
const recentLabel = () => `Since ${clockTime(beginningOf("recent"))}`;

export class PeriodFigures {
  #draw;
  #error = h("div", { hidden: true });
  #recentOption = this.#option("recent", recentLabel());

  /** Undefined until they have been read. @type {PeriodFiguresRead | undefined} */
  figures;
  /** @type {SVGElement | undefined} */
  chart;
  /** The control that chooses the period. */
  element = this.#choice();

  /** @param {() => void} draw shows the figures; they are of the period that they were read for */
  constructor(draw) {
    this.#draw = draw;
  }

  /**
   * @param {Period} value
   * @param {string} text
   * @returns {HTMLOptionElement}
   */
  #option(value, text) {
    return h("option", { value, selected: value === chosenPeriod }, text);
  }

  /** @returns {HTMLElement} */
  #choice() {
    /** @param {{ currentTarget: HTMLSelectElement }} event */
    const onchange = ({ currentTarget }) => void this.#choose(currentTarget);
    const select = h("select.short", { id: "period", onchange }, [
      this.#recentOption,
      this.#option("day", "Last 24 hours"),
      this.#option("week", "Last 7 days"),
    ]);
    return h("div.row", h("label", { for: "period" }, "Period"), select, this.#error);
  }

  /**
   * @param {HTMLSelectElement} select
   * @returns {Promise<void>}
   */
  async #choose(select) {
    const period = /** @type {Period} */ (select.value);
    chosenPeriod = period;
    this.#error.hidden = true;
    try {
      await this.load();
    } catch (error) {
      if (period !== chosenPeriod) return;
      // The figures on the screen are still those of the previous period.
      chosenPeriod = this.figures?.period ?? "recent";
      select.value = chosenPeriod;
      fill(this.#error, errorAlert(error)).hidden = false;
    }
  }

  /**
   * Loads the figures, if the key may read them, and draws them.
   * @returns {Promise<void>}
   */
  async load() {
    const period = chosenPeriod;
    if (mayReadUsage()) {
      const [figures, chart] = await Promise.all([readFigures(period), readHourlyChart()]);
      // Another period may have been chosen in between.
      if (period !== chosenPeriod) return;
      this.figures = { ...figures, period };
      this.chart = chart;
    }
    this.#draw();
  }

  /**
   * Updates the label of the recent period, which depends on the time.
   * @returns {void}
   */
  updateLabel() {
    this.#recentOption.textContent = recentLabel();
  }
}
