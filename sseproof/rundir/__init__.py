"""The run directory: rows, append, read, the clock, named seeds. The leaf that every package may import."""
