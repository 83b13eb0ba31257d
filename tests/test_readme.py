"""The README's code runs as it stands, and its commands are what the continuous integration runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LONG = ("leading=", "dy.train(")  # half of the time of all blocks is compiling these, and no other block needs them


@pytest.mark.slow_cases("all")
@pytest.mark.parametrize("left_out", [(), LONG], ids=["all", "quick"])
def test_python_blocks_run_in_order(left_out, capsys):
    namespace = {}
    blocks = [block for block in BLOCKS if not any(word in block for word in left_out)]
    assert len(blocks) == len(BLOCKS) - len(left_out) >= 10
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "converged" in printed and "stable" in printed and "Neimark-Sacker" in printed
    assert "Counterexample" in printed and "none failed" in printed
    assert 0.3 < float((namespace["chart"].outcome == 0).mean()) < 0.9


def test_there_are_two_commands():
    run, test = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert run.strip().endswith("dynamics run") and "pytest" in test


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()
