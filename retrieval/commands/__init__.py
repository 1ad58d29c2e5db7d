"""The commands of `retrieve`, by subject: each takes what was asked, makes one call, and prints."""
