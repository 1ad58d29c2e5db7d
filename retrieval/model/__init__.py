"""The model: backbone, head and bundle, preprocessing, and inference without torch."""
