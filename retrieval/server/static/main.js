// The page: what its address says is what it shows.

import { get, post } from "./api.js";
import { counted, make, tell } from "./dom.js";
import { showDetail } from "./detail.js";
import { showDuplicates } from "./duplicates.js";
import { showGallery } from "./gallery.js";
import { askWith, keep, resultOf, showResult } from "./results.js";
import { go, onChange, onlyFilters, state } from "./state.js";

const main = document.getElementById("main");
const filterForm = document.getElementById("filters");
const ASK_AGAIN = 1500; // milliseconds between looks at an indexing
let leave = () => {};
let stopping = new AbortController();
let status = null;
let current = null; // the result that is shown or waited for
let looking = 0; // the timer of the next look at the store

/** Give up what is being shown, and say what stops the next. */
function begin() {
  leave();
  leave = () => {};
  stopping.abort();
  stopping = new AbortController();
  return stopping.signal;
}

async function render() {
  const of = state();
  const signal = begin();
  showFilters(of);
  document.body.dataset.section = of.show === "duplicates" ? "duplicates" : of.picture || of.upload ? "hits" : "gallery";
  document.querySelectorAll("[data-section]").forEach((link) => {
    if (link.tagName !== "A") return;
    if (link.dataset.section === document.body.dataset.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  delete main.dataset.explained;
  try {
    const stop = await shown(of, signal);
    if (signal.aborted) stop();
    else leave = stop;
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) complain(error);
  }
}

async function shown(of, signal) {
  const isAsked = of.show !== "duplicates" && (of.picture || of.upload);
  document.title = isAsked ? "Hits – retrieve" : of.show === "duplicates" ? "Duplicates – retrieve" : "Gallery – retrieve";
  if (!isAsked) follow(null);
  if (of.show === "duplicates") return showDuplicates(main, signal);
  if (!isAsked) return showGallery(main, signal);
  const result = resultOf(of);
  follow(result);
  if (!result.found) main.replaceChildren(make("p", { class: "quiet", "aria-busy": "true" }, "Looking…"));
  await result.hits;
  if (signal.aborted) return () => {};
  if (!of.hit) return showResult(main, result);
  status ??= await get("api/status");
  return showDetail(main, of, result, status);
}

/** Another result is looked at from now on. */
function follow(result) {
  if (current !== result) current?.giveUp();
  current = result;
}

function complain(error) {
  main.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message),
    make("p", {}, make("a", { href: "./", "data-link": true }, "To the gallery")));
}

/** A picture that was dropped, pasted or chosen. */
async function ask(file) {
  const signal = begin();
  const of = { ...state(), ...Object.fromEntries(["show", "picture", "upload", "hit"].map((name) => [name, ""])), top: "12" };
  tell("Looking…");
  document.body.classList.add("busy");
  const result = askWith(file, of);
  follow(result);
  try {
    await result.hits;
    if (signal.aborted) return;
    const now = { ...of, upload: result.found.query.upload };
    keep(now, result);
    go({ upload: now.upload }, { from: { ...onlyFilters(of) } });
    main.focus({ preventScroll: true });
  } catch (error) {
    if (!signal.aborted) complain(error);
  } finally {
    document.body.classList.remove("busy");
  }
}

// Drop, paste, choose.

const pictureOf = (list) => [...(list ?? [])].find((file) => file instanceof File);

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = pictureOf(event.dataTransfer.files);
  if (file) ask(file);
  else tell("What was dropped is no picture's file.");
});
addEventListener("paste", (event) => {
  const file = pictureOf(event.clipboardData?.files);
  if (file) ask(file);
});
document.getElementById("file").addEventListener("change", (event) => {
  const file = pictureOf(event.target.files);
  if (file) ask(file);
  event.target.value = "";
});

// Links stay on the page.

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-link]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
  render();
});

// Filters.

function showFilters(of) {
  for (const name of ["label", "folder", "since", "until", "least"]) {
    const field = filterForm.elements[name];
    if (field.tagName === "SELECT" && of[name] && ![...field.options].some((option) => option.value === of[name])) {
      field.append(make("option", { value: of[name] }, of[name]));
    }
    field.value = of[name];
  }
  filterForm.querySelector("output").textContent = `${of.least} %`;
  filterForm.querySelector("[type=reset]").hidden = ![of.label, of.folder, of.since, of.until, Number(of.least)].some(Boolean);
}

filterForm.addEventListener("change", (event) => {
  go({ [event.target.name]: event.target.value }, { replace: event.target.name === "least" });
});
filterForm.addEventListener("input", (event) => {
  if (event.target.name === "least") filterForm.querySelector("output").textContent = `${event.target.value} %`;
});
filterForm.addEventListener("reset", (event) => {
  event.preventDefault();
  go({ label: "", folder: "", since: "", until: "", least: "" });
});
filterForm.addEventListener("submit", (event) => event.preventDefault());

function offer(name, values) {
  const field = filterForm.elements[name];
  const chosen = field.value;
  field.replaceChildren(make("option", { value: "" }, "any"), ...values.map((value) => make("option", { value }, value)));
  if (chosen && !values.includes(chosen)) field.append(make("option", { value: chosen }, chosen));
  field.value = chosen;
  field.closest("label").hidden = values.length === 0;
}

// The store.

const indexing = document.getElementById("indexing");

async function look() {
  try {
    const before = status;
    status = await get("api/status");
    offer("label", status.labels);
    if (!before || before.pictures !== status.pictures) offer("folder", await get("api/folders"));
    showStore();
    const hasChanged = before && (before.pictures !== status.pictures || before.indexing) && !status.indexing;
    if (hasChanged && document.body.dataset.section === "gallery") render();
  } catch (error) {
    indexing.hidden = false;
    indexing.replaceChildren(make("p", { class: "problem" }, error.message));
  }
  clearTimeout(looking);
  looking = setTimeout(look, status?.indexing ? ASK_AGAIN : 20 * ASK_AGAIN);
}

function showStore() {
  const going = status.indexing;
  indexing.hidden = !going && !status.indexing_error;
  if (going) {
    const rate = going.seconds > 1 ? going.done / going.seconds : 0;
    const left = going.total && rate ? Math.max(0, Math.round((going.total - going.done) / rate)) : null;
    const told = `Indexing: ${going.done.toLocaleString("en")}${going.total ? ` of ${going.total.toLocaleString("en")}` : ""} files`
      + (rate ? `, ${Math.round(rate)} a second` : "") + (left === null ? "" : `, about ${left} s left`);
    indexing.replaceChildren(make("label", {}, told, make("progress", going.total ? { max: going.total, value: going.done } : {})));
  } else if (status.indexing_error) {
    indexing.replaceChildren(make("p", { class: "problem" }, status.indexing_error));
  }
  const refresh = make("button", { type: "button", disabled: Boolean(going) }, "Bring up to date");
  refresh.addEventListener("click", async () => {
    refresh.disabled = true;
    try {
      status = await post("api/index");
      tell("Indexing has begun.");
      showStore();
      clearTimeout(looking);
      looking = setTimeout(look, ASK_AGAIN);
    } catch (error) {
      indexing.hidden = false;
      indexing.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
    }
  });
  document.getElementById("store").replaceChildren(
    `${counted(status.pictures, "picture", "pictures")} in ${counted(status.galleries.length, "gallery", "galleries")}, model ${status.model}`,
    status.calibrated ? ", calibrated" : "",
    status.failed ? `, ${counted(status.failed, "file", "files")} could not be read (retrieve status tells why)` : "", " ", refresh);
}

onChange(render);
render();
// On a small screen filters that are not in use would only be in the way.
const wide = matchMedia("(min-width: 641px)");
const unfold = () => {
  document.getElementById("filtering").open = wide.matches || !filterForm.querySelector("[type=reset]").hidden;
};
wide.addEventListener("change", unfold);
unfold();
look();
