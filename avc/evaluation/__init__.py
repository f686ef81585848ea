"""Measuring what a trained network knows."""
