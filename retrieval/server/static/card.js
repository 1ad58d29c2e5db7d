// One hit as a card: the query and the hit with their heatmaps, the facts, the check, and near-duplicates.

import { make, percent, plural } from "./dom.js";
import { connect, Pane } from "./pane.js";
import { addressOf, onlyFilters, state } from "./state.js";

/** A hit beside the query. */
export class Card {
  constructor(query, hit, result, { side = 448, isChecked = false } = {}) {
    this.hit = hit;
    this.result = result;
    const name = hit.picture.name;
    this.panes = [new Pane("query", query, { side, name: query.name ?? "" }), new Pane("hit", hit.picture, { side, name })];
    this.wholes = make("p", { class: "wholes", hidden: true });
    this.checked = make("div", { class: "checked" }, isChecked && awaitedCheck());
    this.glance = make("span", { class: "glance" });
    this.isConnected = false;
    this.isNear = false;
    this.isSettled = false;
    const page = state();
    const id = `hit-${hit.rank}`;
    this.element = make("article", { "aria-labelledby": id, "data-rank": hit.rank },
      make("h3", { id }, make("span", { class: "rank" }, String(hit.rank)), " ",
        make("a", { href: addressOf({ hit: String(hit.picture.id) }), "data-link": true }, name)),
      facts(hit),
      this.checked,
      make("div", { class: "pair" }, this.panes.map((pane) => pane.figure)),
      hit.note && make("p", { class: "note" }, hit.note),
      this.wholes,
      make("p", { class: "actions" },
        make("a", { href: addressOf({ picture: String(hit.picture.id) }, onlyFilters(page)), "data-link": true }, "Search from this"),
        make("a", { href: addressOf({ hit: String(hit.picture.id) }), "data-link": true }, "All methods"),
        this.glance),
      copies(hit));
  }

  draw(view) {
    const explanation = this.result.explanations.get(this.hit.rank);
    const kind = view === "picture" || explanation?.wholes ? null : view;
    this.glance.textContent = (!explanation?.identical && explanation?.glance) || "";
    if (explanation && !this.isSettled) this.showCheck(explanation);
    if (explanation?.type === "unexplained") {
      this.panes.forEach((pane) => pane.show(kind, null, { missing: explanation.error }, 0));
      return;
    }
    ["query", "hit"].forEach((side, index) => {
      this.panes[index].show(kind, explanation, explanation?.[side], this.result.scales[explanation?.method]);
    });
    this.wholes.textContent = explanation?.wholes ?? "";
    this.wholes.hidden = !explanation?.wholes;
    if (explanation?.matches && !this.isConnected) {
      connect(...this.panes, explanation.matches);
      this.isConnected = true;
    }
  }

  showCheck({ glance, verification: check }) {
    if (glance) {
      const awaited = this.checked.querySelector(".awaited");
      if (awaited) awaited.textContent = `Not checked: ${glance}.`;
      return;
    }
    this.isSettled = true;
    this.checked.replaceChildren(...(check ? verification(check) : []));
    if (check) this.element.dataset.support = check.support;
  }
}

/** What takes the place of a check until it is made. */
export const awaitedCheck = () => make("p", { class: "support awaited" }, "Being checked…");

/** Whether the heatmaps hold, in a sentence, and its figures behind it. */
export function verification(check) {
  const [first, ...others] = check.headings;
  return [make("p", { class: `support ${check.support.replace(" ", "_")}` }, check.told), make("details", {},
    make("summary", {}, "Figures of the check"),
    make("p", { class: "note" },
      "A fifth of a picture is hidden: the part that the heatmap marks most or, for comparison, random regions of the same",
      " area and shape. Hiding evidence for the verdict should cost more similarity to it than hiding them; hiding evidence",
      " against it should cost less."),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures of the check" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, first), others.map((each) => make("th", { scope: "col" }, each)))),
      make("tbody", {}, check.rows.map(([name, ...cells]) =>
        make("tr", {}, make("th", { scope: "row" }, name), cells.map((cell) => make("td", {}, cell))))))))];
}

export function facts(hit) {
  const bar = make("i");
  bar.style.width = `${100 * hit.similarity}%`;
  return make("p", { class: "facts" },
    make("span", { class: "bar", "aria-hidden": "true" }, bar),
    make("b", { class: "percent" }, percent(hit.similarity)),
    make("b", { class: `verdict ${hit.verdict}` }, hit.verdict),
    hit.probability !== null && make("span", {}, "same kind ", make("b", {}, percent(hit.probability))),
    hit.picture.label && make("span", {}, "label ", make("b", {}, hit.picture.label)),
    make("span", {}, `rank ${hit.index_rank} in the index, before rescoring`),
    make("span", { class: "folder" }, hit.picture.folder));
}

function copies(hit) {
  if (!hit.copies.length) return null;
  return make("details", { class: "copies" },
    make("summary", {}, plural(hit.copies.length, "near-duplicate", "near-duplicates")),
    make("ul", {}, hit.copies.map((copy) => make("li", {},
      make("a", { href: addressOf({ picture: String(copy.id) }, onlyFilters()), "data-link": true },
        make("img", { src: `${copy.image}&side=224`, alt: "", loading: "lazy", width: 56, height: 56 }), copy.name),
      make("span", { class: "folder" }, `${copy.folder}, ${copy.width} × ${copy.height}`)))));
}
