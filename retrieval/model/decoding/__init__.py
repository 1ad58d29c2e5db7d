"""Limits of the time and the memory that decoding a picture takes."""
