"""What the commands share: options, arguments, consoles, progress."""
