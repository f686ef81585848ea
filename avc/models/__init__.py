"""The published networks."""
