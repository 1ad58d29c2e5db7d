"""The page to look at and to search from, and the API behind it: FastAPI over one engine."""
