"""What a store keeps: the catalogue (SQLite, the truth) and vector indexes derived from it."""
