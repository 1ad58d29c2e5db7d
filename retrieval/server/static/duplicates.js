// Groups of pictures that are identical, nearly identical, or alike.

import { get, withParameters } from "./api.js";
import { announce, bytes, make, percent, plural } from "./dom.js";
import { addressOf, filters, onlyFilters, state } from "./state.js";

export async function showDuplicates(main, signal) {
  const page = state();
  main.replaceChildren(make("h2", {}, "Duplicates"), make("p", { class: "quiet" }, "Comparing all pictures with each other…"));
  const duplicates = await get(withParameters("api/duplicates", filters(page)), { signal });
  main.replaceChildren(
    make("h2", {}, "Duplicates"),
    make("p", { class: "quiet" }, duplicates.groups.length
      ? `${plural(duplicates.total, "group", "groups")}, ${plural(duplicates.spare, "picture", "pictures")} more than needed, ${bytes(duplicates.spare_bytes)}. The first of a group is the one to keep. Nothing is deleted here.`
      : "No picture is there twice."),
    make("div", { class: "groups" }, duplicates.groups.map((group, index) => section(group, index + 1, page))));
  if (duplicates.total > duplicates.groups.length) main.append(make("p", { class: "quiet" }, `${duplicates.total - duplicates.groups.length} more: retrieve duplicates lists them all.`));
  if (duplicates.unread) main.append(make("p", { class: "quiet" }, `${plural(duplicates.unread, "file", "files")} could not be read.`));
  announce(plural(duplicates.groups.length, "group", "groups"));
  return () => {};
}

function section(group, number, page) {
  return make("section", { class: "group", "aria-label": `Group ${number}` },
    make("h3", {}, `Group ${number} `, make("span", { class: "quiet" }, group.kind)),
    make("ul", {}, group.pictures.map(({ picture, kind, similarity }, index) => make("li", {},
      make("a", { href: addressOf({ picture: String(picture.id) }, onlyFilters(page)), "data-link": true },
        make("img", { src: `${picture.image}&side=224`, alt: "", loading: "lazy" }), make("span", { class: "name" }, picture.name)),
      make("span", { class: "folder" }, picture.folder),
      make("span", { class: "quiet" }, `${picture.width} × ${picture.height}, ${bytes(picture.size)}`),
      make("span", { class: "quiet" }, index ? `${kind}, ${percent(similarity)}` : "to keep")))));
}
