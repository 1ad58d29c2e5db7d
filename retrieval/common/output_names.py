"""Names of the files that a query or an explanation writes, which a walk of a gallery leaves out."""

import re

HIT_OVERLAY = re.compile(r"hit-\d{2,}-(query|hit)-(factual|counterfactual)\.jpg")
PAIR_OVERLAY = re.compile(r"[ab]-(factual|counterfactual)\.jpg")
HIT_MATCHES = re.compile(r"hit-\d{2,}-correspondences\.png")
CONTACT_SHEET = "contact-sheet.png"
MATCHES = "correspondences.png"
CURVES = "curves.png"


def is_output(name: str) -> bool:
    """Return whether a query or an explanation writes a file of this name."""
    patterns = (HIT_OVERLAY, HIT_MATCHES, PAIR_OVERLAY)
    return name in (CONTACT_SHEET, CURVES, MATCHES) or any(pattern.fullmatch(name) for pattern in patterns)
