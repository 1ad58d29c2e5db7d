// The page: it shows what its address says.

import { get, post } from "./api.js";
import { announce, make, plural } from "./dom.js";
import { showDetail } from "./detail.js";
import { showDuplicates } from "./duplicates.js";
import { showGallery } from "./gallery.js";
import { cacheResult, queryWithFile, resultFor, showResult } from "./results.js";
import { go, onChange, onlyFilters, state } from "./state.js";

const main = document.getElementById("main");
const filterForm = document.getElementById("filters");
const POLL_MILLISECONDS = 1500; // between two polls of the status while the store is indexed
let leave = () => {};
let stopping = new AbortController();
let status = null;
let current = null; // the result that is shown or waited for
let pollTimer = 0;

/** Cancel what is being shown; return the signal that cancels what comes next. */
function cancelCurrent() {
  leave();
  leave = () => {};
  stopping.abort();
  stopping = new AbortController();
  return stopping.signal;
}

async function render() {
  const page = state();
  const signal = cancelCurrent();
  showFilters(page);
  document.body.dataset.section = page.show === "duplicates" ? "duplicates" : page.picture || page.upload ? "hits" : "gallery";
  document.querySelectorAll("[data-section]").forEach((link) => {
    if (link.tagName !== "A") return;
    if (link.dataset.section === document.body.dataset.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  delete main.dataset.explained;
  try {
    const stop = await showSection(page, signal);
    if (signal.aborted) stop();
    else leave = stop;
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) showError(error);
  }
}

async function showSection(page, signal) {
  const isQuery = page.show !== "duplicates" && (page.picture || page.upload);
  document.title = isQuery ? "Hits – retrieve" : page.show === "duplicates" ? "Duplicates – retrieve" : "Gallery – retrieve";
  if (!isQuery) setCurrent(null);
  if (page.show === "duplicates") return showDuplicates(main, signal);
  if (!isQuery) return showGallery(main, signal);
  const result = resultFor(page);
  setCurrent(result);
  if (!result.found) main.replaceChildren(make("p", { class: "quiet", "aria-busy": "true" }, "Looking…"));
  await result.hits;
  if (signal.aborted) return () => {};
  if (!page.hit) return showResult(main, result);
  status ??= await get("api/status");
  return showDetail(main, page, result, status);
}

/** Make this the current result; the one before stops. */
function setCurrent(result) {
  if (current !== result) current?.giveUp();
  current = result;
}

function showError(error) {
  main.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message),
    make("p", {}, make("a", { href: "./", "data-link": true }, "To the gallery")));
}

/** Query with a picture that was dropped, pasted or chosen. */
async function searchWith(file) {
  const signal = cancelCurrent();
  const page = { ...state(), ...Object.fromEntries(["show", "picture", "upload", "hit"].map((name) => [name, ""])), top: "12" };
  announce("Looking…");
  document.body.classList.add("busy");
  const result = queryWithFile(file, page);
  setCurrent(result);
  try {
    await result.hits;
    if (signal.aborted) return;
    const uploaded = { ...page, upload: result.found.query.upload };
    cacheResult(uploaded, result);
    go({ upload: uploaded.upload }, { from: { ...onlyFilters(page) } });
    main.focus({ preventScroll: true });
  } catch (error) {
    if (!signal.aborted) showError(error);
  } finally {
    document.body.classList.remove("busy");
  }
}

// Drop, paste, choose.

/** Query with the picture among what was dropped or pasted, or say what came in its place. */
function searchWithOnly(transfer) {
  const isFolder = [...transfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  if (transfer.files.length === 1 && !isFolder) searchWith(transfer.files[0]);
  else {
    cancelCurrent();
    setCurrent(null);
    showError(new Error(isFolder ? "That was a folder: drop a picture, or add the folder to the gallery with retrieve index."
      : transfer.files.length ? "Those were several files: drop one picture at a time." : "That was not a file: drop a picture file."));
  }
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  searchWithOnly(event.dataTransfer);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) searchWithOnly(event.clipboardData);
});
document.getElementById("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) searchWith(file);
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

function showFilters(page) {
  for (const name of ["label", "folder", "since", "until", "least"]) {
    const field = filterForm.elements[name];
    if (field.tagName === "SELECT" && page[name] && ![...field.options].some((option) => option.value === page[name])) {
      field.append(make("option", { value: page[name] }, page[name]));
    }
    field.value = page[name];
  }
  filterForm.querySelector("output").textContent = `${page.least} %`;
  filterForm.querySelector("[type=reset]").hidden = ![page.label, page.folder, page.since, page.until, Number(page.least)].some(Boolean);
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

function setOptions(name, values) {
  const field = filterForm.elements[name];
  const chosen = field.value;
  field.replaceChildren(make("option", { value: "" }, "any"), ...values.map((value) => make("option", { value }, value)));
  if (chosen && !values.includes(chosen)) field.append(make("option", { value: chosen }, chosen));
  field.value = chosen;
  field.closest("label").hidden = values.length === 0;
}

// The store.

const indexing = document.getElementById("indexing");

async function pollStatus() {
  try {
    const before = status;
    status = await get("api/status");
    setOptions("label", status.labels);
    if (!before || before.pictures !== status.pictures) setOptions("folder", await get("api/folders"));
    showStore();
    const hasChanged = before && (before.pictures !== status.pictures || before.indexing) && !status.indexing;
    if (hasChanged && document.body.dataset.section === "gallery") render();
  } catch (error) {
    indexing.hidden = false;
    indexing.replaceChildren(make("p", { class: "problem" }, error.message));
  }
  clearTimeout(pollTimer);
  pollTimer = setTimeout(pollStatus, status?.indexing ? POLL_MILLISECONDS : 20 * POLL_MILLISECONDS);
}

function showStore() {
  const progress = status.indexing;
  indexing.hidden = !progress && !status.indexing_error;
  if (progress) {
    const rate = progress.seconds > 1 ? progress.done / progress.seconds : 0;
    const left = progress.total && rate ? Math.max(0, Math.round((progress.total - progress.done) / rate)) : null;
    const text = `Indexing: ${progress.done.toLocaleString("en")}${progress.total ? ` of ${progress.total.toLocaleString("en")}` : ""} files`
      + (rate ? `, ${Math.round(rate)} a second` : "") + (left === null ? "" : `, about ${left} s left`);
    indexing.replaceChildren(make("label", {}, text, make("progress", progress.total ? { max: progress.total, value: progress.done } : {})));
  } else if (status.indexing_error) {
    indexing.replaceChildren(make("p", { class: "problem" }, status.indexing_error));
  }
  const refresh = make("button", { type: "button", disabled: Boolean(progress) }, "Bring up to date");
  refresh.addEventListener("click", async () => {
    refresh.disabled = true;
    try {
      status = await post("api/index");
      announce("Indexing has begun.");
      showStore();
      clearTimeout(pollTimer);
      pollTimer = setTimeout(pollStatus, POLL_MILLISECONDS);
    } catch (error) {
      indexing.hidden = false;
      indexing.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
    }
  });
  document.getElementById("store").replaceChildren(
    `${plural(status.pictures, "picture", "pictures")} in ${plural(status.galleries.length, "gallery", "galleries")}, model ${status.model}, similarity ${status.similarity}`,
    status.calibrated ? ", calibrated" : "",
    status.failed ? `, ${plural(status.failed, "file", "files")} could not be read (see retrieve status)` : "", " ", refresh);
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
pollStatus();
