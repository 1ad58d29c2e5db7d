"""The output of the commands: tables for a terminal, JSON for machines."""
