// What the page shows is what its address says, so that a link can be shared and "back" works.

const NAMES = ["show", "picture", "upload", "hit", "view", "label", "folder", "since", "until", "least", "top", "verify"];
const DEFAULTS = { view: "factual", least: "0", top: "12" };

let changed = () => {};

export function onChange(function_) {
  changed = function_;
  addEventListener("popstate", () => changed());
}

export const state = () => stated(location.search);

/** The values that an address' query says, or their defaults. */
export function stated(search) {
  const given = new URLSearchParams(search);
  return Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? DEFAULTS[name] ?? ""]));
}

/** The address of the page as it is, but for these values. */
export function addressOf(values, from = state()) {
  const kept = Object.entries({ ...from, ...values }).filter(([name, value]) => value && value !== DEFAULTS[name]);
  return kept.length ? `?${new URLSearchParams(kept)}` : "./";
}

export function go(values, { from = state(), replace = false, silent = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", addressOf(values, from));
  if (!silent) changed();
}

/** The filters, for the API. */
export const filters = (of = state()) => ({ label: of.label, folder: of.folder, since: of.since, until: of.until });

/** Only the filters of a state: what stays when another picture is asked with. */
export const onlyFilters = (of = state()) => ({ ...filters(of), least: of.least, view: of.view, verify: of.verify });
