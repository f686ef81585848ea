"""The demo's world: a few kinds of sounding objects, rendered to real video files with their truth beside them."""
