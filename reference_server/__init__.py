"""A service under test with a known right answer, and the second witness of every run against it."""
