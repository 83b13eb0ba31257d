"""The table of libraries and layers in the guide, against the GANs that are compared with plain training loops."""

import inspect
import pathlib
import re

import libraries
import pytest

import dynamics as dy

GUIDE = pathlib.Path(dy.__file__).parent.parent / "docs" / "guides" / "your_own_gan.md"
# What of tests/networks/libraries.py each library's pair is made of.
PARTS = {
    "equinox": (libraries.EquinoxGenerator, libraries.EquinoxCritic, libraries.equinox),
    "flax nnx": (libraries.NNXGenerator, libraries.NNXCritic, libraries.flax_nnx),
    "flax linen": (libraries.LinenGenerator, libraries.LinenCritic, libraries.flax_linen),
    "haiku": (libraries.haiku_generator, libraries.Spectral, libraries.haiku_critic, libraries.haiku),
}


def table():
    lines = GUIDE.read_text().split("| library | adapter |")[1].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("|")]
    return {name: [cell.strip("`") for cell in cells] for name, *cells in rows}


def test_the_guide_has_the_libraries_that_are_tested():
    assert set(table()) == set(libraries.LIBRARIES) == set(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_every_layer_of_the_guide_is_in_the_tested_networks(name):
    """By the library's own object, and by its name in the code of the networks."""
    adapter, *layers = table()[name]
    code = "\n".join(inspect.getsource(part) for part in PARTS[name])
    assert callable(getattr(dy.networks, adapter)) and f"dy.networks.{adapter}(" in code
    for layer, kind in zip(layers, ("BatchNorm", "SpectralNorm", "Dropout"), strict=True):
        head, *rest = layer.split(".")
        thing = getattr(libraries, head)
        for attribute in rest:
            thing = getattr(thing, attribute)
        assert callable(thing) and rest[-1].lower() == kind.lower()
        assert re.search(rf"\b{re.escape(layer)}\(", code), layer
