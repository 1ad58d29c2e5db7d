"""Indexing: from galleries to descriptors in the catalogue."""
