"""The commands of `retrieve`, by subject: each checks its arguments, makes one call and prints the answer."""
