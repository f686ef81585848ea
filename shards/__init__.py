"""The dataset on disk: its format, writing it, reading it. Knows media and tar files; never torch, never ranks."""
