"""Beyond eigenvalues: what a Jacobian whose eigenvectors are far from orthogonal does before it decays.

Every function takes a `Stability` report, or a real square matrix with `kind="map"` or `kind="flow"`. Of a report with
neutral directions (along a manifold of equilibria, or of memory that stays where it is put) transient growth, the
Kreiss constant and the distance to instability are those on the invariant subspace of all others.
"""
