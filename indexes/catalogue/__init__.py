"""The catalogue: what a store knows of its pictures, in a database."""
