"""Bilinear games: every method's eigenvalues in closed form, one singular value at a time; a file a kind of method."""
# ruff: noqa: I001 (the order of the imports is the order of the claims)

from dynamics.claims.library.bilinear import gradient as gradient
from dynamics.claims.library.bilinear import implicit as implicit
from dynamics.claims.library.bilinear import extragradient as extragradient
from dynamics.claims.library.bilinear import optimistic as optimistic
from dynamics.claims.library.bilinear import momentum as momentum
from dynamics.claims.library.bilinear import runge_kutta as runge_kutta
from dynamics.claims.library.bilinear import adjusted as adjusted
from dynamics.claims.library.bilinear import lookahead as lookahead
