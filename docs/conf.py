"""Settings of the documentation. One command builds it: python -m sphinx -W docs docs/_build/html"""

import hashlib
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
# Notebooks spend most of their time compiling: as in the tests, without optimisations, where the user has not chosen.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1")
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # of notebooks

from _site import hooks, pages  # noqa: E402

import dynamics  # noqa: E402

project = "dynamics"
author = "the authors of dynamics"
version = release = dynamics.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "_site", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "dynamics"
html_static_path: list[str] = []

# Links: a name that leads nowhere is an error. Types of other packages are no links, as a build needs no network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!dynamics\.).*")]

autosummary_generate = False  # `pages` writes a page for every public name
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__init__"}
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries = False

myst_enable_extensions = ["dollarmath", "deflist", "attrs_block"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# Every page with code runs, and an error in it ends the build. What has run is kept for as long as the library is the
# same: a page that asserts something is tried again on every other version of it.
nb_execution_mode = "cache"
nb_execution_excludepatterns = os.environ.get("DOCS_NOT_EXECUTED", "").split()  # e.g. generated/tutorials/*
nb_execution_raise_on_error = True
nb_execution_timeout = 1200
nb_execution_show_tb = True
nb_merge_streams = True
_sources = sorted((ROOT / "dynamics").rglob("*.py")) + sorted((ROOT / "dynamics").rglob("*.toml"))
_version = hashlib.sha256(b"".join(path.read_bytes() for path in _sources)).hexdigest()[:16]
nb_execution_cache_path = str(HERE / "_build" / "executed" / _version)


def setup(app):
    """Write the generated pages before any is read, and convert docstrings and included texts."""
    app.connect("builder-inited", lambda app: pages.write(HERE / "generated"))
    app.connect("autodoc-process-docstring", hooks.convert_docstring, priority=400)
    app.connect("missing-reference", hooks.not_public)
    app.connect("include-read", hooks.convert_links)
    app.connect("build-finished", hooks.repair_links_back)
