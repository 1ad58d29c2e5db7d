// The page's state is in its address, so that links can be shared and "back" works.

const NAMES = ["show", "picture", "upload", "hit", "view", "label", "folder", "since", "until", "least", "top", "verify"];
const DEFAULTS = { view: "factual", least: "0", top: "12" };

let changed = () => {};

export function onChange(function_) {
  changed = function_;
  addEventListener("popstate", () => changed());
}

export const state = () => parseState(location.search);

/** The state in an address's query, with defaults for what is missing. */
export function parseState(search) {
  const parameters = new URLSearchParams(search);
  return Object.fromEntries(NAMES.map((name) => [name, parameters.get(name) ?? DEFAULTS[name] ?? ""]));
}

/** The address of the page with these values changed. */
export function addressOf(values, from = state()) {
  const chosen = Object.entries({ ...from, ...values }).filter(([name, value]) => value && value !== DEFAULTS[name]);
  return chosen.length ? `?${new URLSearchParams(chosen)}` : "./";
}

export function go(values, { from = state(), replace = false, silent = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", addressOf(values, from));
  if (!silent) changed();
}

/** The filters, for the API. */
export const filters = (page = state()) => ({ label: page.label, folder: page.folder, since: page.since, until: page.until });

/** The part of the state that stays when another picture is the query. */
export const onlyFilters = (page = state()) => ({ ...filters(page), least: page.least, view: page.view, verify: page.verify });
