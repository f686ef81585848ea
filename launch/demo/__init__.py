"""The rendered world, the demo on it, and the study of the papers findings."""
