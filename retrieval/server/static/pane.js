// One picture with its overlays: a heatmap, and what corresponds to a place in the other picture.

import { announce, make } from "./dom.js";
import { correspondence, drawCorrespondence, drawHeat, evidence } from "./heat.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Images are loaded when they are nearly in view, so that those in view come first. */
const nearView = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => {
  if (!isIntersecting) return;
  nearView.unobserve(target);
  target.src = target.dataset.src;
}), { rootMargin: "300px" });

const FADE_MILLISECONDS = 400; // as in app.css

const imageUrl = (image, side) => `${image}&side=${side}`;

/** `title` is its name in the pair, `picture` an answer of the API. */
export class Pane {
  constructor(title, picture, { side = 448, name = "" } = {}) {
    this.title = title;
    this.heat = make("canvas", { class: "heat", "aria-hidden": "true" });
    this.lit = make("canvas", { class: "lit", "aria-hidden": "true" });
    this.caption = make("figcaption", {}, title);
    const image = make("img", {
      "data-src": imageUrl(picture.image, side), alt: `The ${title} ${name}`, width: picture.width, height: picture.height,
      decoding: "async", draggable: "false",
    });
    image.addEventListener("error", () => this.frame.classList.add("broken"));
    this.image = image;
    nearView.observe(image);
    this.seen = make("div", { class: "seen" }, this.heat, this.lit);
    const [left, top, right, bottom] = picture.seen;
    Object.entries({ left, top, width: right - left, height: bottom - top }).forEach(([key, value]) => {
      this.seen.style[key] = `${100 * value}%`;
    });
    this.frame = make("div", { class: "frame" }, image, this.seen);
    this.frame.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.frame.style.setProperty("--ratio", Math.min(Math.max(picture.width / picture.height, 0.2), 5));
    this.figure = make("figure", { class: "pane" }, this.frame, this.caption);
  }

  /** Let the heatmap fade that is drawn, over one that is drawn next. */
  fade() {
    const old = this.heat;
    this.heat = make("canvas", { class: "heat", "aria-hidden": "true" });
    old.before(this.heat);
    old.className = "fading";
    setTimeout(() => old.remove(), FADE_MILLISECONDS);
  }

  /** Show the picture as it is (null), or with its factual or counterfactual heatmap. */
  show(kind, explanation, maps, scale) {
    const isDrawn = kind && maps && !maps.missing;
    this.frame.classList.toggle("heated", Boolean(isDrawn));
    this.figure.dataset.kind = isDrawn ? kind : "picture";
    if (isDrawn && this.method && this.method !== explanation.method) this.fade();
    this.method = isDrawn ? explanation.method : null;
    if (isDrawn) {
      drawHeat(this.heat, maps[kind], kind, scale > 0 ? maps.magnitude / scale : 0);
      const meaning = `${kind === "factual" ? "for" : "against"} “${explanation.verdict}”`;
      const strength = evidence(maps, kind, scale);
      this.caption.replaceChildren(make("i", { class: kind }), `${this.title}: ${meaning}: ${strength}`);
      this.image.alt = `The ${this.title} with its ${kind} heatmap, ${meaning}: ${strength}`;
    } else {
      const missing = kind && (maps?.missing ?? "the heatmap is being made…");
      this.caption.replaceChildren(missing ? `${this.title}: ${missing}` : `${this.title}, as it is`);
    }
  }
}

/** Pointing at a place in one of two panes highlights what corresponds to it in the other. */
export function connect(query, hit, matches) {
  const grids = [matches.query_grid, matches.hit_grid];
  [[query, hit, true], [hit, query, false]].forEach(([own, other, fromQuery]) => {
    const [rows, columns] = grids[fromQuery ? 0 : 1];
    const at = { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
    const point = (row, column) => {
      const values = correspondence(matches, row * columns + column, fromQuery);
      drawCorrespondence(other.lit, values);
      drawCorrespondence(own.lit, Array.from({ length: rows }, (_, y) =>
        Array.from({ length: columns }, (_, x) => (y === row && x === column ? 1 : 0.3))));
      own.frame.classList.add("pointed");
      other.frame.classList.add("pointed");
      return values;
    };
    const leave = () => [own, other].forEach((pane) => pane.frame.classList.remove("pointed"));
    const follow = (event) => {
      const box = own.seen.getBoundingClientRect();
      const share = (value, size) => Math.min(Math.max(value / size, 0), 0.999);
      const row = Math.floor(rows * share(event.clientY - box.top, box.height));
      const column = Math.floor(columns * share(event.clientX - box.left, box.width));
      if (own.frame.classList.contains("pointed") && row === at.row && column === at.column) return;
      Object.assign(at, { row, column });
      point(row, column);
    };
    own.seen.addEventListener("pointermove", follow);
    own.seen.addEventListener("pointerdown", follow); // a tap; it lasts until another place is tapped
    own.seen.addEventListener("pointerleave", (event) => event.pointerType === "touch" || leave());
    own.seen.tabIndex = 0;
    own.seen.setAttribute("role", "slider");
    own.seen.setAttribute("aria-label", `Place in the ${own.title}: arrow keys move, and highlight what corresponds`);
    own.seen.setAttribute("aria-valuemin", 1);
    own.seen.setAttribute("aria-valuemax", rows * columns);
    const updateLabel = () => {
      own.seen.setAttribute("aria-valuenow", at.row * columns + at.column + 1);
      own.seen.setAttribute("aria-valuetext", `row ${at.row + 1}, column ${at.column + 1}`);
    };
    updateLabel();
    own.seen.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      at.row = Math.min(Math.max(at.row + step[0], 0), rows - 1);
      at.column = Math.min(Math.max(at.column + step[1], 0), columns - 1);
      const values = point(at.row, at.column);
      updateLabel();
      const best = values.flatMap((row, y) => row.map((value, x) => [value, y, x])).sort((a, b) => b[0] - a[0])[0];
      announce(`Corresponds most to row ${best[1] + 1}, column ${best[2] + 1} of the ${other.title}.`);
    });
    own.seen.addEventListener("blur", leave);
  });
}
