"""The heatmap methods, by name."""
