"""The catalogue: a store's record of its pictures, in a database."""
