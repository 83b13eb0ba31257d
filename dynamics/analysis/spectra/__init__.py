"""Eigenvalues of operators that are known by their products alone."""
