"""Requests and answers of the API."""
