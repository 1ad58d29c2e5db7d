"""Middleware that every request passes: security and metrics."""
