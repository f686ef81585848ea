"""The rendered world, and the demo on it."""
