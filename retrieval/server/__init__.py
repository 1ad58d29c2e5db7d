"""The web page and the HTTP API: FastAPI over one engine."""
