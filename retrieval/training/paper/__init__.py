"""Reproduction of the paper's section 4."""
