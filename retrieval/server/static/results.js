// The hits of a query, each beside it, with heatmaps as they come.

import { lines, Problem, withParameters } from "./api.js";
import { counted, make, percent, tell } from "./dom.js";
import { drawLegend } from "./heat.js";
import { connect, Pane } from "./pane.js";
import { addressOf, filters, go, onlyFilters, state, stated } from "./state.js";

const MOST = 96; // hits of one result
const CHECKED = 24; // of one whose heatmaps are checked
const KEPT = 8; // results that "back" finds again without asking

const kept = new Map();

/** The result of a query: hits and explanations, which come while it is shown. */
class Result {
  constructor() {
    this.found = null;
    this.explanations = new Map();
    this.scale = 0;
    this.listeners = new Set();
    this.isDone = false;
    this.problem = null;
    this.stopping = new AbortController();
  }

  /** Nobody looks at it any more: what has not come is not waited for. */
  giveUp() {
    if (this.isDone) return;
    this.stopping.abort();
    for (const [key, result] of kept) if (result === this) kept.delete(key);
  }

  take(part) {
    if (part.type === "hits") this.found = part;
    if (part.type === "explanation" || part.type === "unexplained") this.explanations.set(part.rank, part);
    if (part.type === "explanation") {
      this.scale = Math.max(this.scale, part.query.magnitude, part.hit.magnitude);
    }
    if (part.type === "end") this.isDone = true;
    this.listeners.forEach((listener) => listener(part));
  }
}

const keyOf = (of) => JSON.stringify([of.picture, of.upload, filters(of), of.top, of.verify]);

export function keep(of, result) {
  kept.set(keyOf(of), result);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

const asked = (of) => ({
  ...filters(of), top: of.top, verify: of.verify ? "true" : "", correspond: "true", collapse: "true", stream: "true",
});

/** Ask with a file. */
export function askWith(file, of) {
  return start(withParameters("api/query", asked(of)), { method: "POST", body: file });
}

/** The result that the address asks for: one that is kept, or a new one. */
export function resultOf(of) {
  const known = kept.get(keyOf(of));
  if (known && !known.problem) return known;
  const started = start(withParameters("api/query", { picture: of.picture, upload: of.upload, ...asked(of) }));
  keep(of, started);
  return started;
}

/** A result whose `hits` are there once that promise is kept. */
function start(address, options) {
  const result = new Result();
  result.hits = new Promise((found, failed) => {
    (async () => {
      try {
        for await (const part of lines(address, { ...options, signal: result.stopping.signal })) {
          result.take(part);
          if (part.type === "hits") found();
        }
        if (!result.isDone) throw new Problem("The answer broke off.");
      } catch (error) {
        result.problem = error;
        failed(error);
        if (error.name !== "AbortError") result.take({ type: "problem", error: error.message || "The answer broke off." });
      }
    })();
  });
  result.hits.catch(() => {}); // told by whoever waits for it
  return result;
}

/** Everything that is shown of a result, kept in step with it. */
export function showResult(main, result) {
  const of = state();
  const { found } = result;
  const least = (Number(of.least) || 0) / 100;
  const shown = found.hits.filter((hit) => hit.similarity >= least);
  const query = found.query;
  const name = query.name ?? "the picture that you sent";
  const cards = new Map(shown.map((hit) => [hit.rank, new Card(query, hit, result)]));
  const { bar, views } = toolbar(of);
  main.replaceChildren(
    make("div", { class: "asked" },
      make("h2", {}, "The most similar to ", make("b", {}, name)),
      make("p", { class: "quiet" },
        `${counted(shown.length, "hit", "hits")}`, shown.length < found.hits.length ? ` of ${found.hits.length}` : "",
        found.calibrated ? ", similarity calibrated to this gallery" : ""),
      found.doubt && make("p", { class: "doubt" }, found.doubt),
      !shown.length && make("p", { class: "empty" }, emptiness(found, least)),
      bar, reading()),
    make("div", { class: "cards" }, [...cards.values()].map((card) => card.element)),
    shown.length && found.hits.length === Number(of.top) && 2 * Number(of.top) <= (of.verify ? CHECKED : MOST)
      ? make("a", { class: "more", href: addressOf({ top: String(Number(of.top) * 2) }), "data-link": true }, "More hits")
      : "",
  );
  // A card is drawn when its explanation is there, and again where a later one is stronger, as all share one scale; in
  // one go before the browser paints, and where it is not in view, when it comes into it.
  const waiting = new Set(cards.values());
  let scale = result.scale;
  let isPlanned = false;
  const draw = () => {
    isPlanned = false;
    const { view } = state();
    waiting.forEach((card) => card.isNear && waiting.delete(card) && card.draw(view));
  };
  const plan = () => {
    if (!isPlanned) requestAnimationFrame(draw);
    isPlanned = true;
  };
  const near = new IntersectionObserver((seen) => {
    seen.forEach(({ isIntersecting, target }) => { cards.get(Number(target.dataset.rank)).isNear = isIntersecting; });
    plan();
  }, { rootMargin: "300px" });
  cards.forEach((card) => near.observe(card.element));
  views.addEventListener("change", () => {
    cards.forEach((card) => waiting.add(card));
    plan();
  });
  const update = (part) => {
    if (part.rank && cards.has(part.rank)) waiting.add(cards.get(part.rank));
    if (result.scale > scale) cards.forEach((card) => waiting.add(card));
    scale = result.scale;
    plan();
    if (part.type === "problem") {
      main.prepend(make("p", { class: "problem", role: "alert" }, `${part.error} `,
        make("a", { href: addressOf({}), "data-link": true }, "Try again")));
    }
    if (part.type === "end") {
      requestAnimationFrame(() => { main.dataset.explained = "true"; });
      tell("All heatmaps are there.");
    }
  };
  main.dataset.explained = String(result.isDone);
  result.listeners.add(update);
  tell(`${counted(shown.length, "hit", "hits")}. ${found.doubt ?? ""}`);
  return () => {
    near.disconnect();
    result.listeners.delete(update);
  };
}

const emptiness = (found, least) =>
  found.hits.length ? `No hit has a similarity of ${percent(least)} or more.` : "Nothing in this selection answers.";

/** How heatmaps are read, and what they cannot say. */
function reading() {
  const legend = (kind, meaning) => {
    const bar = make("canvas", { class: "legend", role: "img", "aria-label": "from grey to bright: faint to strong" });
    drawLegend(bar, kind);
    return make("p", {}, make("b", {}, kind === "factual" ? "Factual" : "Counterfactual"), ` ${meaning} `, bar);
  };
  return make("details", { class: "reading" },
    make("summary", {}, "How to read this"),
    legend("factual", "speaks for the verdict"),
    legend("counterfactual", "speaks against the verdict: it would have to weigh more for the verdict to turn"),
    make("p", {}, "“Similar” means a similarity above 50 %. All hits share one scale, so faint evidence looks faint.",
      " Point at a place in one picture: what corresponds to it in the other stays bright."),
    make("p", {}, "The limits: a heatmap has a few places (mostly 7 × 7), enlarged, so its edges are not the edges of things,",
      " and the dark edges of an oblong picture were not seen by the model. Heatmaps say what the model’s verdict rests on;",
      " they prove nothing about the pictures, and the model may be right for the wrong reasons. Check them where it matters."));
}

/** What is laid over all pictures, and how strongly. */
function toolbar(of) {
  const radio = (view, title, more) => make("label", {},
    make("input", { type: "radio", name: "view", value: view, checked: of.view === view }),
    make("span", { class: view }, title, more && make("span", { class: "long" }, more)));
  const views = make("fieldset", { class: "views" }, make("legend", { class: "unseen" }, "What is shown over the pictures"),
    radio("picture", "Picture"), radio("factual", "Factual", ": for"), radio("counterfactual", "Counterfactual", ": against"));
  views.addEventListener("change", (event) => {
    const view = event.target.value;
    go({ view }, { replace: true, silent: true });
    document.querySelectorAll("main a[data-link]").forEach((link) => { link.href = addressOf({ view }, stated(link.search)); });
  });
  const strength = make("input", { type: "range", min: "0", max: "150", value: sessionStorage.getItem("strength") ?? "100", name: "strength" });
  const apply = () => {
    document.documentElement.style.setProperty("--overlay", Number(strength.value) / 100);
    sessionStorage.setItem("strength", strength.value);
  };
  strength.addEventListener("input", apply);
  apply();
  const verify = make("input", { type: "checkbox", name: "verify", checked: Boolean(of.verify), disabled: Number(of.top) > CHECKED });
  verify.addEventListener("change", () => go({ verify: verify.checked ? "1" : "" }, { replace: true }));
  const same = { ...filters(of), picture: of.picture, upload: of.upload, top: of.top, correspond: "true", collapse: "true" };
  const bar = make("div", { class: "toolbar", role: "group", "aria-label": "Heatmaps" },
    views,
    make("label", {}, "Overlay ", strength),
    make("label", {}, verify, " Check the heatmaps"),
    make("a", { class: "export", href: withParameters("api/export", { ...same, verify: of.verify ? "true" : "", min_similarity: (Number(of.least) || 0) / 100 }), download: "hits.html" },
      "Save as a page"));
  return { bar, views };
}

/** A hit beside the query. */
export class Card {
  constructor(query, hit, result, { side = 448 } = {}) {
    this.hit = hit;
    this.result = result;
    const name = hit.picture.name;
    this.panes = [new Pane("query", query, { side, name: query.name ?? "" }), new Pane("hit", hit.picture, { side, name })];
    this.checked = make("div", { class: "checked" });
    this.isConnected = false;
    this.isNear = false;
    const of = state();
    const id = `hit-${hit.rank}`;
    this.element = make("article", { "aria-labelledby": id, "data-rank": hit.rank },
      make("h3", { id }, make("span", { class: "rank" }, String(hit.rank)), " ",
        make("a", { href: addressOf({ hit: String(hit.picture.id) }), "data-link": true }, name)),
      facts(hit),
      make("div", { class: "pair" }, this.panes.map((pane) => pane.figure)),
      hit.note && make("p", { class: "note" }, hit.note),
      this.checked,
      make("p", { class: "actions" },
        make("a", { href: addressOf({ picture: String(hit.picture.id) }, onlyFilters(of)), "data-link": true }, "Search from this"),
        make("a", { href: addressOf({ hit: String(hit.picture.id) }), "data-link": true }, "All methods")),
      copies(hit));
  }

  draw(view) {
    const explanation = this.result.explanations.get(this.hit.rank);
    const kind = view === "picture" ? null : view;
    if (explanation?.type === "unexplained") {
      this.panes.forEach((pane) => pane.show(kind, null, { missing: explanation.error }, 0));
      return;
    }
    ["query", "hit"].forEach((side, place) => {
      this.panes[place].show(kind, explanation, explanation?.[side], this.result.scale);
    });
    if (explanation?.matches && !this.isConnected) {
      connect(...this.panes, explanation.matches);
      this.isConnected = true;
    }
    if (explanation?.verification) this.checked.replaceChildren(verification(explanation.verification));
  }
}

/** What became of the similarity when a fifth of a picture was hidden. */
export function verification(found) {
  const [first, ...others] = found.headings;
  return make("details", {},
    make("summary", {}, make("b", { class: `support ${found.support.replace(" ", "_")}` }, found.told)),
    make("p", { class: "note" },
      "A fifth of a picture is blurred: what the heatmap names most, or, as a yardstick, random regions of the same",
      " area and shape. Blurring what speaks for the verdict should cost it more than they do, blurring what speaks",
      " against it less."),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures of the check" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, first), others.map((each) => make("th", { scope: "col" }, each)))),
      make("tbody", {}, found.rows.map(([name, ...cells]) =>
        make("tr", {}, make("th", { scope: "row" }, name), cells.map((cell) => make("td", {}, cell))))))));
}

export function facts(hit) {
  const bar = make("i");
  bar.style.width = `${100 * hit.similarity}%`;
  return make("p", { class: "facts" },
    make("span", { class: "bar", "aria-hidden": "true" }, bar),
    make("b", { class: "percent" }, percent(hit.similarity)),
    make("b", { class: `verdict ${hit.verdict}` }, hit.verdict),
    hit.picture.label && make("span", {}, "label ", make("b", {}, hit.picture.label)),
    make("span", {}, `rank ${hit.index_rank} in the index, before rescoring`),
    make("span", { class: "folder" }, hit.picture.folder));
}

function copies(hit) {
  if (!hit.copies.length) return null;
  return make("details", { class: "copies" },
    make("summary", {}, counted(hit.copies.length, "near-duplicate", "near-duplicates")),
    make("ul", {}, hit.copies.map((copy) => make("li", {},
      make("a", { href: addressOf({ picture: String(copy.id) }, onlyFilters()), "data-link": true },
        make("img", { src: `${copy.image}&side=224`, alt: "", loading: "lazy", width: 56, height: 56 }), copy.name),
      make("span", { class: "folder" }, `${copy.folder}, ${copy.width} × ${copy.height}`)))));
}
