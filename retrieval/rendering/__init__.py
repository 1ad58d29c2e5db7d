"""How results look: overlays, contact sheets, pages, and the files that hold them."""
