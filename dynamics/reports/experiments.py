"""Results of an experiment as a sentence, as plain data, and as a folder of files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dynamics import _trees
from dynamics._plain import plain
from dynamics.experiments import Experiment
from dynamics.reports._folder import Problems, about, how_to_repeat, write_folder
from dynamics.training import Training

LOG, CHECKPOINTS = "log.csv", "checkpoints"
FILES = ("results.json", "report.md", LOG, "samples.png", "training.png")


def to_json(experiment: Experiment, training: Training) -> dict[str, Any]:
    """Settings, ending, losses and metrics as plain Python data; what is not finite becomes `None`."""
    return plain(
        {
            **about(experiment),
            "numbers": [_trees.size(player) for player in experiment.players],
            "ending": training.ending.name,
            "step": training.step,
            "steps": training.steps,
            "losses": training.losses,
            "metrics": training.metrics,
        }
    )


def summary(experiment: Experiment, training: Training) -> str:
    """How it ended, with the last metrics, in a sentence or two."""
    return f"{experiment.title}: {training.describe()}"


def markdown(experiment: Experiment, training: Training, command: str | None = None) -> str:
    """The report: what was trained, how good the samples are along the way, how to do it again."""
    names = list(training.metrics)
    heads = ["step", *(f"loss {player}" for player in range(training.losses.shape[1])), *names]
    columns = [training.steps, *training.losses.T, *training.metrics.values()]
    lines = [
        f"# {experiment.title}",
        "",
        training.describe(),
        "",
        "![Samples](samples.png)",
        "",
        "![Losses and metrics](training.png)",
        "",
        "## Along the way",
        "",
        "Metrics are those of the averaged generator, on 2,048 samples of always the same latent points.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "--:|" * len(heads),
    ]
    for row in zip(*columns, strict=True):
        lines.append(f"| {row[0]} | " + " | ".join(f"{value:.4g}" for value in row[1:]) + " |")
    sizes = " and ".join(str(_trees.size(player)) for player in experiment.players)
    asked = {"numbers in generator and discriminator": sizes} | dict(experiment.settings)
    lines += how_to_repeat(asked, command or f"dynamics run {experiment.name}")
    return "\n".join(lines) + "\n"


def write(
    experiment: Experiment,
    training: Training,
    directory: str | Path,
    command: str | None = None,
    problems: Problems | None = None,
) -> None:
    """Write numbers, report and pictures into a folder; the numbers are on the disk before anything is drawn.

    Args:
        experiment, training: what was trained, and what came out.
        directory: the folder, which is made where needed.
        command: what was typed, for the report.
        problems: gets the names of the pictures that could not be written, with the exceptions; without it the first
            exception is raised when all else is done.

    Raises:
        OSError: the numbers cannot be written.
    """
    numbers, text = to_json(experiment, training), markdown(experiment, training, command)
    write_folder(directory, numbers, text, _pictures(experiment, training), problems)


def _pictures(experiment: Experiment, training: Training) -> dict[str, Callable[[Path], Any]]:
    from dynamics import plots

    said = f"{training.ending.name.replace('_', ' ')} after {training.step} steps"

    def samples(path: Path) -> None:
        fake = experiment.samples(training.averaged_players)
        centres = None if experiment.data.centres is None else np.asarray(experiment.data.centres)
        titles = {"title": experiment.title, "subtitle": said}
        rows = max(1, experiment.rows)
        figure = plots.samples(fake, experiment.real_samples(), centres=centres, rows=rows, **titles)
        plots.save(figure, path)

    def curves(path: Path) -> None:
        plots.save(plots.training(training, title=experiment.title, subtitle=said), path)

    return {"samples.png": samples, "training.png": curves}
