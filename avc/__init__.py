"""The science of audio-visual correspondence. Never a scheduler, never a command line."""
