"""Networks that see, as teachers of SoundNet, and the soft labels that they write beside the shards."""
