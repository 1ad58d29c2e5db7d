"""What every wing may use: errors, settings, text, files, threads, progress, figures."""
