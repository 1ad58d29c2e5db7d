"""Results as pictures and pages: overlays, contact sheets, HTML, and the files that hold them."""
