"""How good a model is: rankings, verdicts, mistakes, audits, and whether heatmaps are true."""
