"""What tests of sweeps share."""


def equal(one, other):
    """The same bits, types and dimensions of all variables."""
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        a, b = one[name], other[name]
        assert (a.dims, a.dtype, a.values.tobytes()) == (b.dims, b.dtype, b.values.tobytes()), name
