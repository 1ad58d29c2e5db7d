// The gallery: a click on a picture searches with it.

import { get, withParameters } from "./api.js";
import { announce, make, plural } from "./dom.js";
import { addressOf, filters, onlyFilters, state } from "./state.js";

export async function showGallery(main, signal) {
  const page = state();
  const grid = make("ul", { class: "grid", "aria-label": "Pictures" });
  const more = make("button", { type: "button", class: "more", hidden: true }, "More pictures");
  const count = make("p", { class: "quiet" });
  let next = null;
  let isLoading = false;
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      const batch = await get(withParameters("api/pictures", { ...filters(page), after: next }), { signal });
      grid.append(...batch.pictures.map((picture) => thumbnail(picture, page)));
      next = batch.next;
      more.hidden = !next;
      count.textContent = `${plural(batch.total, "picture", "pictures")}. Click one to find what looks like it.`;
      if (!batch.total) count.textContent = "No picture is in this selection.";
    } finally {
      isLoading = false;
    }
  };
  await load();
  main.replaceChildren(make("h2", { class: "unseen" }, "The gallery"), count, grid, more);
  announce(count.textContent);
  more.addEventListener("click", load);
  const observer = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && next && load(), { rootMargin: "600px" });
  observer.observe(more);
  return () => observer.disconnect();
}

function thumbnail(picture, page) {
  const label = picture.label ? `, ${picture.label}` : "";
  return make("li", {}, make("a", { href: addressOf({ picture: String(picture.id) }, onlyFilters(page)), "data-link": true, title: picture.folder },
    make("img", { src: `${picture.image}&side=224`, alt: `${picture.name}${label}`, loading: "lazy", decoding: "async" }),
    make("span", { class: "name" }, picture.name)));
}
