"""Labelled pictures: class folders, their split, pairs, near-duplicates, crops."""
