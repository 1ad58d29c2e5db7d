"""Pictures that a store has more than once."""
