// One hit in detail: all four heatmaps, correspondences, the check, and every method.

import { get, withParameters } from "./api.js";
import { awaitedCheck, facts, verification } from "./card.js";
import { announce, make, percent } from "./dom.js";
import { connect, Pane } from "./pane.js";
import { addressOf, onlyFilters } from "./state.js";

const KINDS = ["factual", "counterfactual"];
const DESCRIPTIONS = {
  occlusion: "what was found out by hiding parts of the pictures",
  ensemble: "the lesser of integrated Grad-CAM and a local match",
  gradcam: "the paper’s Grad-CAM: gradients of the distance over the last convolutional layer",
};

export function showDetail(main, page, result, status) {
  const { query, hits } = result.found;
  const hit = hits.find((each) => String(each.picture.id) === page.hit);
  if (!hit) {
    main.replaceChildren(make("p", { class: "empty" }, "That picture is not among these hits. "),
      make("a", { href: addressOf({ hit: "" }), "data-link": true }, "Back to the hits"));
    return () => {};
  }
  const stopping = new AbortController();
  const methods = make("div", { class: "methods" });
  const checked = make("div", { class: "checked" }, awaitedCheck());
  const plain = [new Pane("query", query, { side: 1024, name: query.name ?? "" }), new Pane("hit", hit.picture, { side: 1024, name: hit.picture.name })];
  plain.forEach((pane) => pane.show(null));
  main.replaceChildren(
    make("p", { class: "back" }, make("a", { href: addressOf({ hit: "" }), "data-link": true }, "← All hits")),
    make("h2", {}, make("span", { class: "rank" }, String(hit.rank)), " ", hit.picture.name),
    facts(hit),
    hit.probability === null ? "" : make("p", { class: "quiet" }, `${percent(hit.plain_similarity)} by the model alone, whatever the gallery`),
    checked,
    make("div", { class: "pair large" }, plain.map((pane) => pane.figure)),
    make("p", { class: "note" }, "Point at a place in one picture: what corresponds to it in the other stays bright."),
    make("p", { class: "actions" },
      make("a", { href: addressOf({ picture: String(hit.picture.id) }, onlyFilters(page)), "data-link": true }, "Search from this")),
    make("h2", {}, "By every method"),
    make("p", { class: "quiet" }, "What speaks for the verdict, then what speaks against it, in both pictures."),
    methods);
  const pair = { picture: page.picture, upload: page.upload, hit: page.hit };
  const explain = (more) => get(withParameters("api/explain", { ...pair, ...more }), { signal: stopping.signal });
  const known = result.explanations.get(hit.rank);
  if (known?.type === "explanation") methods.append(...rows(query, hit, known, status));
  run(async () => {
    const first = await explain({ correspond: "true", verify: "true" });
    if (first.type === "unexplained") {
      checked.replaceChildren(make("p", { class: "empty" }, first.error));
      return;
    }
    if (first.matches) connect(...plain, first.matches);
    checked.replaceChildren(...(first.verification ? verification(first.verification) : []));
    methods.replaceChildren(...rows(query, hit, first, status));
    announce("The default heatmaps and their check are ready.");
    const shown = [first.method, first.gradcam && "gradcam"];
    for (const method of status.methods.filter((each) => !shown.includes(each))) {
      if (status.slow_methods.includes(method)) methods.append(slow(query, hit, method, explain));
      else methods.append(row(query, hit, await explain({ method })));
    }
    main.dataset.explained = "true";
  }, methods);
  return () => stopping.abort();
}

/** The default heatmaps, or their first glance, and below them Grad-CAM's of the same answer. */
function rows(query, hit, explanation, status) {
  const { gradcam } = explanation;
  const note = explanation.glance ?? (explanation.method === status.default_method ? "the default, by measurement" : null);
  const beside = gradcam && row(query, hit, { ...explanation, ...gradcam, method: "gradcam", wholes: null });
  if (gradcam?.verification) beside.append(...verification(gradcam.verification));
  return [row(query, hit, explanation, note), beside].filter(Boolean);
}

function row(query, hit, explanation, note = null) {
  const scale = Math.max(explanation.query.magnitude, explanation.hit.magnitude);
  const panes = ["query", "hit"].flatMap((side) => KINDS.map((kind) => {
    const pane = new Pane(side, side === "query" ? query : hit.picture, { side: 448 });
    pane.show(explanation.wholes ? null : kind, explanation, explanation[side], scale);
    return pane.figure;
  }));
  return make("section", { class: "method", "data-method": explanation.method },
    make("h3", {}, explanation.method,
      make("span", { class: "quiet" }, ` ${[DESCRIPTIONS[explanation.method], note].filter(Boolean).join(": ")}`)),
    explanation.wholes && make("p", { class: "wholes" }, explanation.wholes),
    make("div", { class: "four" }, panes));
}

function slow(query, hit, method, explain) {
  const section = make("section", { class: "method" }, make("h3", {}, method));
  const button = make("button", { type: "button" }, "Make it: it takes some seconds");
  button.addEventListener("click", () => {
    button.disabled = true;
    button.textContent = "Being made…";
    run(async () => section.replaceWith(row(query, hit, await explain({ method }))), section);
  });
  section.append(button);
  return section;
}

async function run(work, container) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") container.append(make("p", { class: "problem", role: "alert" }, error.message));
  }
}
