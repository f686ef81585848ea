"""A conformance suite for decoders, and the flashes and beeps that it knows the times of."""
