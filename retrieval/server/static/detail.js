// One hit in detail: all four heatmaps, correspondences, the check, and every method.

import { get, withParameters } from "./api.js";
import { facts, verification } from "./card.js";
import { announce, make } from "./dom.js";
import { connect, Pane } from "./pane.js";
import { addressOf, onlyFilters } from "./state.js";

const KINDS = ["factual", "counterfactual"];
const DESCRIPTIONS = {
  ensemble: "the lesser of integrated Grad-CAM and a local match: the default, by measurement",
  gradcam: "the paper's: gradients of the distance over the last convolutional layer",
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
  const checked = make("div", { class: "checked" });
  const plain = [new Pane("query", query, { side: 1024, name: query.name ?? "" }), new Pane("hit", hit.picture, { side: 1024, name: hit.picture.name })];
  plain.forEach((pane) => pane.show(null));
  main.replaceChildren(
    make("p", { class: "back" }, make("a", { href: addressOf({ hit: "" }), "data-link": true }, "← All hits")),
    make("h2", {}, make("span", { class: "rank" }, String(hit.rank)), " ", hit.picture.name),
    facts(hit),
    make("div", { class: "pair large" }, plain.map((pane) => pane.figure)),
    make("p", { class: "note" }, "Point at a place in one picture: what corresponds to it in the other stays bright."),
    checked,
    make("p", { class: "actions" },
      make("a", { href: addressOf({ picture: String(hit.picture.id) }, onlyFilters(page)), "data-link": true }, "Search from this")),
    make("h2", {}, "By every method"),
    make("p", { class: "quiet" }, "What speaks for the verdict, then what speaks against it, in both pictures."),
    methods);
  const pair = { picture: page.picture, upload: page.upload, hit: page.hit };
  const explain = (more) => get(withParameters("api/explain", { ...pair, ...more }), { signal: stopping.signal });
  run(async () => {
    const first = await explain({ correspond: "true", verify: "true" });
    if (first.type === "unexplained") {
      checked.replaceChildren(make("p", { class: "empty" }, first.error));
      return;
    }
    if (first.matches) connect(...plain, first.matches);
    if (first.verification) checked.replaceChildren(verification(first.verification));
    methods.append(row(query, hit, first));
    announce("The default heatmaps and their check are ready.");
    for (const method of status.methods.filter((each) => each !== first.method)) {
      if (status.slow_methods.includes(method)) methods.append(slow(query, hit, method, explain));
      else methods.append(row(query, hit, await explain({ method })));
    }
    main.dataset.explained = "true";
  }, methods);
  return () => stopping.abort();
}

function row(query, hit, explanation) {
  const scale = Math.max(explanation.query.magnitude, explanation.hit.magnitude);
  const panes = ["query", "hit"].flatMap((side) => KINDS.map((kind) => {
    const pane = new Pane(side, side === "query" ? query : hit.picture, { side: 448 });
    pane.show(kind, explanation, explanation[side], scale);
    return pane.figure;
  }));
  return make("section", { class: "method", "data-method": explanation.method },
    make("h3", {}, explanation.method, DESCRIPTIONS[explanation.method] && make("span", { class: "quiet" }, ` ${DESCRIPTIONS[explanation.method]}`)),
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
