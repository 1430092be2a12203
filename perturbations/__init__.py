"""Videos written again with one perturbation each, to measure how robust a detector is."""
