"""The generator: makes load and records what happened. It judges nothing."""
