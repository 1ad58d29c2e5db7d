"""What a model looks at and confuses in a data set, and what to do about it."""
