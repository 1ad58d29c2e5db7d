"""How a model learns: from class folders, or from the descriptors of a backbone."""
