"""Names of the files that a query or an explanation writes, which a walk of a gallery leaves out."""

import re

HIT_FILES = re.compile(r"hit-\d{2,}-((query|hit)-(gradcam-)?(factual|counterfactual)\.jpg|correspondences\.png)")
PAIR_FILES = re.compile(r"[ab]-(gradcam-)?(factual|counterfactual)\.jpg|correspondences\.png")
CONTACT_SHEET = "contact-sheet.png"
MATCHES = "correspondences.png"
GRADCAM_PART = "gradcam-"  # of the names of Grad-CAM's overlays beside another method's
CURVES = "curves.png"


def is_output(name: str) -> bool:
    """Return whether a query or an explanation writes a file of this name."""
    return name in (CONTACT_SHEET, CURVES) or any(pattern.fullmatch(name) for pattern in (HIT_FILES, PAIR_FILES))
