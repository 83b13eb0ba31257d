"""The claims, a file a topic."""
