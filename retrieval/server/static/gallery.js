// Looking through the gallery: any picture can be asked with.

import { get, withParameters } from "./api.js";
import { counted, make, tell } from "./dom.js";
import { addressOf, filters, onlyFilters, state } from "./state.js";

export async function showGallery(main, signal) {
  const of = state();
  const grid = make("ul", { class: "grid", "aria-label": "Pictures" });
  const more = make("button", { type: "button", class: "more", hidden: true }, "More pictures");
  const count = make("p", { class: "quiet" });
  let next = null;
  let isLoading = false;
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      const part = await get(withParameters("api/pictures", { ...filters(of), after: next }), { signal });
      grid.append(...part.pictures.map((picture) => thumbnail(picture, of)));
      next = part.next;
      more.hidden = !next;
      count.textContent = `${counted(part.total, "picture", "pictures")}. Click one to find what looks like it.`;
      if (!part.total) count.textContent = "No picture is in this selection.";
    } finally {
      isLoading = false;
    }
  };
  await load();
  main.replaceChildren(make("h2", { class: "unseen" }, "The gallery"), count, grid, more);
  tell(count.textContent);
  more.addEventListener("click", load);
  const watch = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && next && load(), { rootMargin: "600px" });
  watch.observe(more);
  return () => watch.disconnect();
}

function thumbnail(picture, of) {
  const label = picture.label ? `, ${picture.label}` : "";
  return make("li", {}, make("a", { href: addressOf({ picture: String(picture.id) }, onlyFilters(of)), "data-link": true, title: picture.folder },
    make("img", { src: `${picture.image}&side=224`, alt: `${picture.name}${label}`, loading: "lazy", decoding: "async" }),
    make("span", { class: "name" }, picture.name)));
}
