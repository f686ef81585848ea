"""Tools for those who work on the project: nothing in the library imports them."""
