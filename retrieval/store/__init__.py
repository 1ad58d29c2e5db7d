"""Stores of indexed pictures: indexing, queries, duplicates, maintenance."""
