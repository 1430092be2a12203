"""A video in, tracks and chunks out; and a split as a whole."""
