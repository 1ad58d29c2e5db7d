"""How true the heatmaps of a method are over a data set."""
