"""The checker: pure functions over a run directory. It never touches the target."""
