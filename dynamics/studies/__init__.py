"""Studies: which training methods converge on which games, predicted and simulated, from a file of data.

What an update, flow, game or any part of them takes in Python is an entry of its table; parts are tables with a name.
Schedules are such tables as well, `Every` and those of optax that are made of numbers: as the learning rate of an
optimiser, or of an update `Scheduled`, which multiplies all penalties of the game, or what the paths `where` lead to.

    [[method]]
    label = "lazy R1"
    [method.update]
    name = "Scheduled"
    schedule = { name = "Every", interval = 16 }
    [method.update.inner_update]
    name = "Simultaneous"
    optimisers = [
        { name = "sgd", learning_rate = 0.1 },
        { name = "sgd", learning_rate = { name = "exponential_decay", init_value = 0.2, transition_steps = 100,
          decay_rate = 0.5, end_value = 0.1 } },
    ]

Nothing here imports JAX before a study is loaded.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dynamics.studies.schema import Study as Study
from dynamics.studies.schema import StudyError as StudyError
from dynamics.studies.schema import builtin as builtin
from dynamics.studies.schema import new as new

if TYPE_CHECKING:
    from dynamics.studies.results import Judged, Results


def load(source: str, settings: Sequence[str] = (), plugins: Sequence[str] = ()) -> Study:
    """Read a study and check all of it, down to building every game and method.

    Args:
        source: name of a built-in study, or path of a TOML file.
        settings: texts like `steps=100`, applied to the study's data before it is checked.
        plugins: modules to import first; their games, objectives, penalties, directions, updates and flows can then be
            named. This runs their code: name only what you trust.

    Raises:
        StudyError: with one message that names the key, the value, what was expected and the nearest valid name.

    >>> len(load("flagship").recipes) > 300
    True
    """
    from dynamics import catalogue
    from dynamics.studies.schema import read

    try:
        catalogue.plug_in(plugins)
    except ImportError as error:
        raise StudyError(str(error)) from error
    study = read(source, settings)
    from dynamics.studies.engine import prepare

    prepare(study)
    return study


def execute(study: Study, progress: Callable[[int, int, str], None] | None = None, **options: Any) -> "Results":
    """Run all cells of a study: stability at the equilibrium, a run from the start, a run from close by.

    Args:
        study: what `load` returned.
        progress: called with the number of cells done, their total, and what became of them.
        options: `executor`, whose workers compute; `devices`, a number of JAX's that share the work; `store`, a folder
            that keeps what is done; `resume`, whether to go on with what is in it; `plugins`, modules that it needs.

    Returns:
        cells, predicted and simulated, and portraits; for `dynamics.plots` and `to_dataframe()`.
    """
    from dynamics.studies.engine import execute as run

    return run(study, progress, **options)


def stabilities(study: Study) -> "list[Judged]":
    """Game, method and `dynamics.analysis.Stability` of every cell, without simulating.

    Args:
        study: what `load` returned.

    Returns:
        an entry per cell, in the order of the study.
    """
    from dynamics.studies.engine import stabilities as run

    return run(study)


def resolved_toml(study: Study) -> str:
    """The resolved study, defaults and settings filled in, as TOML text that runs as it is.

    Args:
        study: what `load` returned.

    Returns:
        the text, for a file that ends in .toml.
    """
    import tomli_w

    return tomli_w.dumps(study.data)
