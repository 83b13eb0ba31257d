"""What tests of sweeps share."""

from dynamics.ensembles import cells


def small_blocks(patch, lanes):
    """Blocks of so many cells: three times a power of two."""
    assert lanes % 3 == 0
    patch.setitem(cells.LANES, "cpu", lanes)
    patch.setattr(cells, "FEWEST_LANES", 1)


def equal(one, other):
    """The same bits, types and dimensions of all variables."""
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        a, b = one[name], other[name]
        assert (a.dims, a.dtype, a.values.tobytes()) == (b.dims, b.dtype, b.values.tobytes()), name
