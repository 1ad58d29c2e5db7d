"""What the commands print: tables for a terminal, JSON for machines."""
