// The hits of a query, with heatmaps as they arrive.

import { lines, Problem, withParameters } from "./api.js";
import { Card } from "./card.js";
import { announce, make, percent, plural } from "./dom.js";
import { drawLegend } from "./heat.js";
import { addressOf, filters, go, onlyFilters, parseState, state } from "./state.js";

const MAX_HITS = 96; // of one result
const MAX_CHECKED = 24; // hits of a result whose heatmaps are checked
const MAX_CACHED = 8; // results that "back" shows again without a request

const cache = new Map();

/** The result of a query: hits and explanations, which arrive while it is shown. */
class Result {
  constructor() {
    this.found = null;
    this.explanations = new Map();
    this.scales = {}; // of each method, as only its own heatmaps can be compared
    this.listeners = new Set();
    this.isDone = false;
    this.problem = null;
    this.stopping = new AbortController();
  }

  /** Stop receiving what has not arrived yet. */
  giveUp() {
    if (this.isDone) return;
    this.stopping.abort();
    for (const [key, result] of cache) if (result === this) cache.delete(key);
  }

  /** How far it is: "glance" once every hit has a heatmap that may still be replaced, "true" at the end. */
  get progress() {
    return this.isDone ? "true" : this.explanations.size === this.found.hits.length ? "glance" : "false";
  }

  take(part) {
    if (part.type === "hits") this.found = part;
    if (part.type === "explanation" || part.type === "unexplained") this.explanations.set(part.rank, part);
    if (part.type === "explanation") {
      this.scales[part.method] = Math.max(this.scales[part.method] ?? 0, part.query.magnitude, part.hit.magnitude);
    }
    if (part.type === "end") this.isDone = true;
    this.listeners.forEach((listener) => listener(part));
  }
}

const keyOf = (page) => JSON.stringify([page.picture, page.upload, filters(page), page.top, page.verify]);

export function cacheResult(page, result) {
  cache.set(keyOf(page), result);
  if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value);
}

const queryParameters = (page) => ({
  ...filters(page), top: page.top, verify: page.verify ? "true" : "", correspond: "true", collapse: "true", stream: "true",
});

/** Query with a file. */
export function queryWithFile(file, page) {
  return start(withParameters("api/query", queryParameters(page)), { method: "POST", body: file });
}

/** The result that the address describes: from the cache, or a new one. */
export function resultFor(page) {
  const cached = cache.get(keyOf(page));
  if (cached && !cached.problem) return cached;
  const started = start(withParameters("api/query", { picture: page.picture, upload: page.upload, ...queryParameters(page) }));
  cacheResult(page, started);
  return started;
}

/** A result whose promise `hits` resolves once they have arrived. */
function start(address, options) {
  const result = new Result();
  result.hits = new Promise((resolve, reject) => {
    (async () => {
      try {
        for await (const part of lines(address, { ...options, signal: result.stopping.signal })) {
          result.take(part);
          if (part.type === "hits") resolve();
        }
        if (!result.isDone) throw new Problem("The answer broke off.");
      } catch (error) {
        result.problem = error;
        reject(error);
        if (error.name !== "AbortError") result.take({ type: "problem", error: error.message || "The answer broke off." });
      }
    })();
  });
  result.hits.catch(() => {}); // reported where it is awaited
  return result;
}

/** Show a result, and update it while explanations arrive; return what stops that. */
export function showResult(main, result) {
  const page = state();
  const { found } = result;
  const least = (Number(page.least) || 0) / 100;
  const hits = found.hits.filter((hit) => hit.similarity >= least);
  const query = found.query;
  const name = query.name ?? "the picture that you sent";
  const cards = new Map(hits.map((hit) => [hit.rank, new Card(query, hit, result, { isChecked: page.verify })]));
  const { bar, views } = toolbar(page);
  main.replaceChildren(
    make("div", { class: "summary" },
      make("h2", {}, "The most similar to ", make("b", {}, name)),
      make("p", { class: "quiet" },
        `${plural(hits.length, "hit", "hits")}`, hits.length < found.hits.length ? ` of ${found.hits.length}` : "",
        found.calibrated ? ", similarity calibrated to this gallery" : ""),
      found.doubt && make("p", { class: "doubt" }, found.doubt),
      !hits.length && make("p", { class: "empty" }, emptyMessage(found, least)),
      bar, readingGuide(found.similarity_by === "gallery")),
    make("div", { class: "cards" }, [...cards.values()].map((card) => card.element)),
    hits.length && found.hits.length === Number(page.top) && 2 * Number(page.top) <= (page.verify ? MAX_CHECKED : MAX_HITS)
      ? make("a", { class: "more", href: addressOf({ top: String(Number(page.top) * 2) }), "data-link": true }, "More hits")
      : "",
  );
  // A card is drawn when its explanation has arrived, and again if a later one of its method is stronger, as these share
  // one scale; all in one go before the browser paints, and those not in view when they come into view.
  const waiting = new Set(cards.values());
  const scales = { ...result.scales };
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
    if (part.method && result.scales[part.method] > (scales[part.method] ?? 0)) {
      scales[part.method] = result.scales[part.method];
      cards.forEach((card) => waiting.add(card));
    }
    plan();
    requestAnimationFrame(() => { main.dataset.explained = result.progress; });
    if (part.type === "problem") {
      main.prepend(make("p", { class: "problem", role: "alert" }, `${part.error} `,
        make("a", { href: addressOf({}), "data-link": true }, "Try again")));
    }
    if (part.type === "end") announce(closing(result));
  };
  main.dataset.explained = result.progress;
  result.listeners.add(update);
  announce(`${plural(hits.length, "hit", "hits")}. ${found.doubt ?? ""}`);
  return () => {
    near.disconnect();
    result.listeners.delete(update);
  };
}

const emptyMessage = (found, least) =>
  found.hits.length ? `No hit has a similarity of ${percent(least)} or more.` : "No picture in this selection is a hit.";

/** What is announced at the end. */
function closing(result) {
  const glances = [...result.explanations.values()].filter((each) => each.glance);
  return glances.length ? `${plural(glances.length, "hit has", "hits have")} a ${glances[0].glance}.` : "All heatmaps are ready.";
}

/** How to read heatmaps, and their limits. */
function readingGuide(byGallery) {
  const legend = (kind, meaning) => {
    const bar = make("canvas", { class: "legend", role: "img", "aria-label": "from grey to bright: faint to strong" });
    drawLegend(bar, kind);
    return make("p", {}, make("b", {}, kind === "factual" ? "Factual" : "Counterfactual"), ` ${meaning} `, bar);
  };
  return make("details", { class: "reading" },
    make("summary", {}, "How to read this"),
    legend("factual", "speaks for the verdict"),
    legend("counterfactual", "speaks against the verdict: it would have to weigh more for the verdict to turn"),
    byGallery && make("p", {}, "Similarity is measured by what is usual among the gallery’s pictures. “Same kind” is the probability that a hit",
      " shows the same kind of thing as the query: of ten hits with 80 %, about eight do."),
    make("p", {}, "“Similar” means a similarity above 50 %. All hits share one scale, so faint evidence looks faint.",
      " Point at a place in one picture: what corresponds to it in the other stays bright."),
    make("p", {}, "The first glance is a quick estimate. It is replaced by what was found out by hiding parts of both pictures."),
    make("p", {}, "The limits: a heatmap has few places (28 × 28, or 7 × 7 at first glance), enlarged, so its edges are not the edges of things,",
      " and the dark edges of an oblong picture were not seen by the model. Heatmaps say what the model’s verdict rests on;",
      " they prove nothing about the pictures, and the model may be right for the wrong reasons. Check them where it matters."));
}

/** The choice of what is drawn over all pictures, and how strongly. */
function toolbar(page) {
  const radio = (view, title, more) => make("label", {},
    make("input", { type: "radio", name: "view", value: view, checked: page.view === view }),
    make("span", { class: view }, title, more && make("span", { class: "long" }, more)));
  const views = make("fieldset", { class: "views" }, make("legend", { class: "unseen" }, "What is shown over the pictures"),
    radio("picture", "Picture"), radio("factual", "Factual", ": for"), radio("counterfactual", "Counterfactual", ": against"));
  views.addEventListener("change", (event) => {
    const view = event.target.value;
    go({ view }, { replace: true, silent: true });
    document.querySelectorAll("main a[data-link]").forEach((link) => { link.href = addressOf({ view }, parseState(link.search)); });
  });
  const strength = make("input", { type: "range", min: "0", max: "150", value: sessionStorage.getItem("strength") ?? "100", name: "strength" });
  const apply = () => {
    document.documentElement.style.setProperty("--overlay", Number(strength.value) / 100);
    sessionStorage.setItem("strength", strength.value);
  };
  strength.addEventListener("input", apply);
  apply();
  const verify = make("input", { type: "checkbox", name: "verify", checked: Boolean(page.verify), disabled: Number(page.top) > MAX_CHECKED });
  verify.addEventListener("change", () => go({ verify: verify.checked ? "1" : "" }, { replace: true }));
  const same = { ...filters(page), picture: page.picture, upload: page.upload, top: page.top, correspond: "true", collapse: "true" };
  const bar = make("div", { class: "toolbar", role: "group", "aria-label": "Heatmaps" },
    views,
    make("label", {}, "Overlay ", strength),
    make("label", {}, verify, " Check the heatmaps"),
    make("a", { class: "export", href: withParameters("api/export", { ...same, verify: page.verify ? "true" : "", min_similarity: (Number(page.least) || 0) / 100 }), download: "hits.html" },
      "Save as a page"));
  return { bar, views };
}
