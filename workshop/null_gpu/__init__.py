"""A CUDA device that computes nothing, on which all the rest of torch runs: dispatch, memory, streams, compiler."""
