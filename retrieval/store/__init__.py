"""What a store keeps and how it is asked: indexing, queries, duplicates, maintenance."""
