"""Options, arguments, consoles and progress that commands share."""
