"""What a capture of `sseproof check` says of an endpoint: one small function a check, pure throughout (checks.md 5.3)."""
