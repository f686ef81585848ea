"""Survey of a set of videos: copies across splits, still pictures, silence, and quality that is only pretended."""
