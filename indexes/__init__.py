"""What a store keeps: the catalogue (SQLite or PostgreSQL, the truth) and vector indexes derived from it."""
