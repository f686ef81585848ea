"""Embeddings of files: decoded ahead by processes, computed in batches, written one by one."""
