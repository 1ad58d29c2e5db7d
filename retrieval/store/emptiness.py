"""Why a search has found nothing, in a sentence that says what there is."""

import os
from dataclasses import dataclass
from difflib import get_close_matches

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.labels import label_spellings
from indexes.catalogue.records import Selection
from retrieval.common.text import count_noun, join_words, percent
from retrieval.sources.location import gallery_name
from retrieval.store.filters import make_selection

_SHOWN = 12  # labels or galleries


@dataclass(frozen=True)
class SearchFilters:
    """What was asked for, as it was typed; None does not restrict."""

    label: str | None = None
    folder: str | None = None
    since: str | None = None
    until: str | None = None

    def select(self, catalogue: Catalogue) -> Selection:
        """Return the selection of a catalogue's pictures. Raises GalleryError if a date is none."""
        return make_selection(self.label, self.folder, self.since, self.until, catalogue)

    def parts(self) -> "dict[str, SearchFilters]":
        """Return each filter by itself, by what it asks for."""
        times = [f"{word} {time}" for word, time in (("since", self.since), ("until", self.until)) if time]
        parts = {
            f"the label {self.label}": SearchFilters(label=self.label) if self.label is not None else None,
            f"below {self.folder}": SearchFilters(folder=self.folder) if self.folder is not None else None,
            " ".join(times): SearchFilters(since=self.since, until=self.until) if times else None,
        }
        return {words: part for words, part in parts.items() if part is not None}


def unknown_name(catalogue: Catalogue, filters: SearchFilters) -> str | None:
    """Return which label or folder the store does not have, and what it has; None if it has what is asked for."""
    if filters.label is not None:
        labels = catalogue.pictures.labels()
        if label_spellings(filters.label).isdisjoint(labels):
            near = get_close_matches(filters.label, labels, _SHOWN)
            return f"no picture has the label {filters.label}; {_there_are(near or labels, 'alike' if near else '')}"
    if filters.folder is not None and not SearchFilters(folder=filters.folder).select(catalogue).folder:
        if os.path.isfile(filters.folder):
            return f"{filters.folder} is a file, and nothing is below it: give --folder a folder"
        roots = [gallery_name(root) for root in catalogue.scans.roots()]
        return f"no picture of the store is below the folder {filters.folder}; {_there_are(roots, 'galleries')}"
    return None


def explain_nothing(
    catalogue: Catalogue, filters: SearchFilters, min_similarity: float = 0.0, best: float | None = None
) -> str:
    """Return why no picture of the store is a hit; `best` is the similarity of the nearest, if there is one."""
    if best is not None:
        return f"the most similar picture has {percent(best)}, less than --min-similarity {min_similarity:g}"
    if not catalogue.pictures.count():
        return "the store has no pictures: `retrieve index` and a folder adds them"
    if said := unknown_name(catalogue, filters):
        return said

    def count(part: SearchFilters) -> int:
        return catalogue.pictures.count_selected(part.select(catalogue))

    if (filters.since or filters.until) and not count(SearchFilters(since=filters.since, until=filters.until)):
        dated, first, last = catalogue.pictures.times()
        if not dated:
            return "no picture of the store has a date, as cameras write it, so none is in any time"
        pictures = count_noun(catalogue.pictures.count(), "picture")
        return f"{dated:,} of {pictures} have a date, from {first} to {last}: none is in this time"
    if not count(filters):
        counts = (f"{words} ({count(part):,})" for words, part in filters.parts().items())
        return f"no picture has all of it: {join_words(counts)}"
    return "the files of the nearest pictures are not there any more: `retrieve index` brings the store up to date"


def _there_are(names: list[str], kind: str) -> str:
    rest = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"there are{f' {kind}' if kind else ''}: {', '.join(names[:_SHOWN])}{rest}"
