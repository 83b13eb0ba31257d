"""The README's code runs as it stands, and its commands are what the continuous integration runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
# Half of the time of all blocks is compiling networks.
LONG = ("leading=", "dy.train(", "eqx.nn.MLP")
PRINTED = {
    "run.describe()": ("converged", "stable: radius"),
    "dy.critical(build": ("1.2", "Neimark-Sacker"),
    "gradient_noise=0.1": ("unstable", "stable"),
    "schedules.Every(4)": ("stable unstable",),
    "dy.claims.search": ("Counterexample",),
    "check_update": ("none failed",),
}


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=pytest.mark.slow) if any(word in b for word in LONG) else b for b in BLOCKS],
    ids=range(len(BLOCKS)),
)
def test_every_python_block_runs_by_itself(block, capsys):
    """With what it imports and defines itself, and nothing of another."""
    namespace: dict = {}
    exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    for code, words in PRINTED.items():
        if code in block:
            assert all(word in printed for word in words), printed
    if "dy.sweep" in block:
        assert 0.3 < float((namespace["chart"].outcome == 0).mean()) < 0.9


def test_the_blocks_are_those_that_are_looked_at():
    assert len(BLOCKS) >= 12 and all(sum(code in block for block in BLOCKS) == 1 for code in PRINTED)


def test_there_are_two_commands():
    run, test = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert run.strip().endswith("dynamics run") and "pytest" in test


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()
