"""Flows in studies: what their solver does must not decide what becomes of them."""

import pytest

from dynamics import studies
from dynamics.studies import schema

STIFF = """
until = 200.0
draw = []

[[game]]
name = "TTURToy"
start = [0.5, -0.4]

[[method]]
label = "descent"
flow = { name = "Flow" }
"""


@pytest.mark.slow
def test_a_stiff_flow_is_not_driven_away_by_its_steps(tmp_path, monkeypatch):
    """Eigenvalues down to -200: 40,000 time constants of the fastest one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STIFF)
    (cell,) = studies.execute(schema.read("study.toml", [])).cells
    assert (cell.outcome, cell.agreement) == ("converged", "agrees")
