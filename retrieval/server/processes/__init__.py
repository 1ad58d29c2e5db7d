"""The processes of a server: start, supervision and end."""
