"""From the bytes of a file to an upright picture, within limits of time and memory, whatever a decoder makes of it."""
