"""Why two pictures are similar or different: heatmaps, correspondences, and whether they are true."""
