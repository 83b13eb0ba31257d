"""Programs of one game for many at once: the games in the last axis, equation by equation."""
