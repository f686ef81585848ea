"""Trained networks as sources of features, one file a family."""
