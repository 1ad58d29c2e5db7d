"""From a gallery to descriptors in the catalogue."""
