// Groups of pictures that are the same, nearly the same, or alike.

import { get, withParameters } from "./api.js";
import { bytes, counted, make, percent, tell } from "./dom.js";
import { addressOf, filters, onlyFilters, state } from "./state.js";

export async function showDuplicates(main, signal) {
  const of = state();
  main.replaceChildren(make("h2", {}, "Duplicates"), make("p", { class: "quiet" }, "Comparing all pictures with each other…"));
  const found = await get(withParameters("api/duplicates", filters(of)), { signal });
  main.replaceChildren(
    make("h2", {}, "Duplicates"),
    make("p", { class: "quiet" }, found.groups.length
      ? `${counted(found.total, "group", "groups")}, ${counted(found.spare, "picture", "pictures")} more than needed, ${bytes(found.spare_bytes)}. The first of a group is the one to keep. Nothing is deleted here.`
      : "No picture is there twice."),
    make("div", { class: "groups" }, found.groups.map((group, place) => section(group, place + 1, of))));
  if (found.total > found.groups.length) main.append(make("p", { class: "quiet" }, `${found.total - found.groups.length} more: retrieve duplicates lists them all.`));
  if (found.unread) main.append(make("p", { class: "quiet" }, `${counted(found.unread, "file", "files")} could not be looked at.`));
  tell(counted(found.groups.length, "group", "groups"));
  return () => {};
}

function section(group, number, of) {
  return make("section", { class: "group", "aria-label": `Group ${number}` },
    make("h3", {}, `Group ${number} `, make("span", { class: "quiet" }, group.kind)),
    make("ul", {}, group.pictures.map(({ picture, kind, similarity }, place) => make("li", {},
      make("a", { href: addressOf({ picture: String(picture.id) }, onlyFilters(of)), "data-link": true },
        make("img", { src: `${picture.image}&side=224`, alt: "", loading: "lazy" }), make("span", { class: "name" }, picture.name)),
      make("span", { class: "folder" }, picture.folder),
      make("span", { class: "quiet" }, `${picture.width} × ${picture.height}, ${bytes(picture.size)}`),
      make("span", { class: "quiet" }, place ? `${kind}, ${percent(similarity)}` : "to keep")))));
}
