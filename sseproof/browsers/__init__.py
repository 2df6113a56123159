"""Real browsers as users: a page that runs the streams by itself, and the desk that takes its records."""
