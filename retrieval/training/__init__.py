"""Training of models on class folders, or on the descriptors of a backbone."""
