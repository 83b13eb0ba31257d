"""Where a game is at rest: Newton's method, all equilibria in a box, and what kind of equilibrium a point is."""
