"""Foundations that every wing uses: errors, settings, text, files, threads, progress, metrics."""
