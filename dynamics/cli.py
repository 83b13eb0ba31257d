"""The command `dynamics`: parse, set the precision, call, show progress, write.

Exit codes: 0 done; 1 with `--strict`, when a disagreement has no explanation; 2 for bad input, or where something could
not be written; 70 for an error of dynamics itself; 130 interrupted; 141 when the reader of the output has gone. What
goes wrong is said in one line on standard error, with `--json` as an object `{"error": ..., "exit_code": ...}`;
`--debug` shows where it went wrong. JAX and everything that needs it is imported by the commands, so that help comes at
once.
"""

import argparse
import contextlib
import logging
import os
import re
import shlex
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dynamics import __version__
from dynamics._memory import check_memory, counted
from dynamics._names import nearest
from dynamics._text import printable, readable, reason, shortened, shown
from dynamics.reports import definitions

ROOMS = tuple(definitions.ABOUT)
DEFAULT_STUDY = "flagship"
EXPERIMENTS = ("ring", "digits")  # those of dynamics.experiments, whose import takes seconds
COMPARISONS = ("gap-aware", "rotation", "rings", "r3gan", "kernels")  # likewise
SURVEYS = ("objectives",)  # likewise
LADDERS = ("ladder",)  # likewise
SPECTRAL_STUDIES = ("numerics", "r1-boundary")  # likewise
LONGEST_MESSAGE = 400  # letters
JSON_FRAME = 30  # letters around a message in JSON
EXAMPLE_BYTES = 1_000  # of memory that an example of a claim takes, at the least
FEW = 3  # cells up to which `stability` tells everything about each


class CommandError(Exception):
    """Something the user can put right; the message says what."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments, by default those of the process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    before_end = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, debug = "--json" in before_end, "--debug" in before_end
    with _lenient_streams(), _warnings_in_a_line(before_end):
        try:
            code = _main(arguments)
            _flush()
            return code
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            _complain("interrupted", 130, as_json)
            if argv is None:
                os._exit(130)  # an ordinary exit would wait for what still computes
            return 130
        except BrokenPipeError:
            # Whoever read the output has gone, as in `dynamics list | head -1`.
            _silence()
            return 141
        except (Exception, SystemExit) as error:
            code, text = _explained(error)
            if debug:
                traceback.print_exc()
            _complain(text, code, as_json)
            return code


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit code and message for an exception that has come up to the top."""
    if isinstance(error, CommandError):
        return 2, str(error)
    catalogue = sys.modules.get("dynamics.catalogue")
    plugin = None if catalogue is None else catalogue.plugin_of(error)
    if plugin is not None:
        return 2, f"--plugin {plugin}: {reason(error)}"
    if isinstance(error, SystemExit):
        return 2, f"something has called sys.exit({shown(error.code)})"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in reason(error):
        return 2, f"there is not enough memory: {reason(error)}"
    if isinstance(error, OSError):
        return 2, f"{f'{shown(error.filename)}: ' if error.filename else ''}{error.strerror or reason(error)}"
    return 70, f"this is an error of dynamics itself: {reason(error)}; add --debug to see where, and please report it"


def _complain(text: str, code: int, as_json: bool) -> None:
    """Say in one line on standard error what went wrong."""
    text = shortened(printable(text), LONGEST_MESSAGE - JSON_FRAME * as_json)
    if as_json:
        import json

        line = json.dumps({"error": text, "exit_code": code})
    else:
        line = f"dynamics: {text}" if code == 130 else f"dynamics: error: {text}"
    with contextlib.suppress(OSError, ValueError):  # nobody can be told
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _lenient_streams() -> Iterator[None]:
    """Characters that a terminal has not got are replaced; a stream that is closed swallows what is written to it."""
    with contextlib.ExitStack() as stack:
        for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
            stream = getattr(sys, name)
            if stream is None:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                redirect = contextlib.redirect_stdout if name == "stdout" else contextlib.redirect_stderr
                stack.enter_context(redirect(nowhere))
            elif getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
                stack.callback(_reconfigure, stream, stream.errors)
                _reconfigure(stream, errors)
        yield


def _reconfigure(stream: Any, errors: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # what is left to be written cannot be, or the stream is closed
        stream.reconfigure(errors=errors)


@contextlib.contextmanager
def _warnings_in_a_line(arguments: Sequence[str]) -> Iterator[None]:
    """Warnings that are shown take one line, and name the plugin that they come from."""
    shown_before = warnings.showwarning
    plugins = {name for flag, name in zip(arguments, arguments[1:], strict=False) if flag == "--plugin"}
    plugins |= {name.removeprefix("--plugin=") for name in arguments if name.startswith("--plugin=")}

    def show(message, category, filename, lineno, file=None, line=None):
        culprits = [name for name in plugins if getattr(sys.modules.get(name), "__file__", None) == filename]
        text = shortened(
            f"{''.join(f'--plugin {name}: ' for name in culprits)}{category.__name__}: {printable(message)}",
            LONGEST_MESSAGE,
        )
        with contextlib.suppress(OSError, ValueError):
            print(f"dynamics: warning: {text}", file=sys.stderr, flush=True)

    if shown_before.__module__ != "warnings":  # somebody records them, as pytest does
        yield
        return
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown_before


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        raise CommandError(f"standard output cannot be written: {error.strerror or error}") from error


def _silence() -> None:
    """What is left to flush at exit goes nowhere."""
    with contextlib.suppress(Exception):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str = "") -> None:
    """Print lines on standard output; nothing in them is obeyed by a terminal."""
    _print("\n".join(printable(line) for line in text.split("\n")))


def _print(text: str) -> None:
    try:
        print(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        raise CommandError(f"standard output cannot be written: {error.strerror or error}") from error


def _main(arguments: list[str]) -> int:
    parser = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise CommandError(
            f"command is {shown(arguments[0])}; expected one of the commands{nearest(arguments[0], COMMANDS)}"
        )
    if arguments and arguments[0].startswith("-") and arguments[0] not in parser._option_string_actions:
        parser.error(f"unrecognized arguments: {arguments[0]}")
    if not arguments:
        parser.print_help()
        return 0
    try:
        options = parser.parse_args(arguments)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    return COMMANDS[options.command](options)


class _Parser(argparse.ArgumentParser):
    """Raises `CommandError` where argparse prints its usage and exits."""

    def __init__(self, **keywords: Any):
        super().__init__(**keywords, allow_abbrev=False)

    def error(self, message: str):
        unknown = re.match(r"unrecognized arguments: (.*)", message, re.DOTALL)
        if unknown:
            first = shortened((unknown[1].split() or [""])[0], 60)
            names = [name for name in self._option_string_actions if name.startswith("--")]
            if first.startswith("-"):
                raise CommandError(f"{first!r} is no option of {self.prog!r}{nearest(first.split('=')[0], names)}")
            raise CommandError(f"{self.prog!r} takes no argument {first!r}; see {self.prog} --help")
        raise CommandError(message.removeprefix("argument "))

    def parse_known_args(self, args=None, namespace=None):
        # A subparser reports the arguments that it does not know itself, with the names of its own options.
        namespace, extras = super().parse_known_args(args, namespace)
        if extras:
            self.error(f"unrecognized arguments: {' '.join(extras)}")
        return namespace, extras


def _parser() -> _Parser:
    parser = _Parser(
        prog="dynamics",
        description="Which GAN training methods converge on which games: predicted from eigenvalues, confirmed by "
        "simulation.",
        epilog="`dynamics run` alone runs the default study; `dynamics COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"dynamics {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, title="commands")

    text = "What there is: an overview in one screen, or the members of a room, one line each."
    show = commands.add_parser("list", help="what there is", description=text)
    show.add_argument(
        "room", nargs="?", type=_room, metavar="ROOM", help=f"all, or one of {', '.join(ROOMS)}; without it an overview"
    )
    show.add_argument(
        "--effects",
        action="store_true",
        help="with penalties: what each does to the eigenvalues of two GANs, beside closed forms (half a minute)",
    )
    show.add_argument("--json", action="store_true", help="one JSON document instead of lines; errors likewise")
    _debug(show)

    text = "The definition of a game, method, study, experiment or claim: formula, arguments, source, example."
    define = commands.add_parser("show", help="the definition of what has a name", description=text)
    define.add_argument("name", metavar="NAME", help="as in dynamics list, e.g. DiracGAN or flagship")
    _plugins(define)

    text = "Write a study to start from, with comments: a TOML file for dynamics stability and dynamics run."
    new = commands.add_parser("new", help="a study file to start from", description=text)
    new.add_argument("path", metavar="FILE.toml", help="of the new file")
    new.add_argument("--json", action="store_true", help="one JSON document; errors likewise")
    _debug(new)

    text = "The eigenvalues of every cell of a study and what follows from them, without simulating."
    judge = commands.add_parser("stability", help="eigenvalues and verdicts", description=text)
    judge.add_argument("study", metavar="STUDY", help="name of a built-in study, or path of a TOML file")
    judge.add_argument(
        "--detail",
        action="store_true",
        help="everything about every cell: the kind of equilibrium, two time scales, transient growth, Kreiss constant "
        f"(without it for up to {FEW} cells)",
    )
    _common(judge)

    text = (
        "Predict and simulate every cell of a study, or train a GAN on data; write a report, pictures and data into a "
        "folder."
    )
    run = commands.add_parser("run", help="predict, simulate, report", description=text)
    run.add_argument(
        "study",
        nargs="?",
        default=DEFAULT_STUDY,
        metavar="STUDY",
        help=f"name of a built-in study or experiment, or path of a TOML file (default {DEFAULT_STUDY})",
    )
    run.add_argument("--out", type=_folder, metavar="DIR", help="folder for the results (default results/STUDY)")
    run.add_argument("--quiet", action="store_true", help="no progress")
    run.add_argument("--strict", action="store_true", help="exit code 1 when a disagreement has no explanation")
    run.add_argument("--workers", type=_whole(1), metavar="N", help="compute in N processes of their own")
    run.add_argument(
        "--devices", type=_whole(1), metavar="N", help="share the work among N devices; on a CPU, N parts of it"
    )
    run.add_argument(
        "--store", type=_folder, metavar="PATH", help="folder that keeps what is done, should the run be interrupted"
    )
    run.add_argument(
        "--resume", action="store_true", help="go on with the unfinished work in --store, or the training in --out"
    )
    _common(run)

    text = "Search for counterexamples to published claims; write a report and pictures of those found into a folder."
    claims = commands.add_parser("claims", help="published claims, attacked by search", description=text)
    claims.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="a topic such as bilinear, or a shell pattern such as '*/optimistic*' (default all of them)",
    )
    claims.add_argument(
        "--examples", type=_whole(1), default=200, metavar="N", help="examples to try of each claim (default 200)"
    )
    claims.add_argument("--seed", type=_whole(0), default=0, metavar="S", help="seed of the examples (default 0)")
    claims.add_argument("--workers", type=_whole(1), metavar="W", help="processes (default one per core)")
    claims.add_argument("--out", type=_folder, metavar="DIR", help="folder for the report (default results/claims)")
    claims.add_argument("--quiet", action="store_true", help="no progress")
    claims.add_argument("--strict", action="store_true", help="exit code 1 when a verdict is not the one announced")
    _plugins(claims)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="PATH=VALUE",
        type=_setting,
        help="change one entry of the study, e.g. --set steps=100; may be repeated",
    )
    parser.add_argument(
        "--precision",
        type=_precision,
        metavar="BITS",
        help="floating-point numbers of 32 or 64 bits (default 64 for studies, 32 for experiments)",
    )
    _plugins(parser)


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        dest="plugins",
        metavar="MODULE",
        help="import a Python module with games and methods of your own, and run its code; may be repeated",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output and nothing else; an error is one on standard error",
    )
    _debug(parser)


def _debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")


def _room(text: str) -> str:
    if text not in (*ROOMS, "all"):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no room of the catalogue{nearest(text, (*ROOMS, 'all'))}")
    return text


def _precision(text: str) -> int:
    if text not in ("32", "64"):
        raise argparse.ArgumentTypeError(f"got {shown(text)}; expected 32 or 64")
    return int(text)


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < minimum:
            most = " and of at most 18 digits" if text.isdigit() and len(text) > 18 else ""
            raise argparse.ArgumentTypeError(f"got {shown(text)}; expected a whole number >= {minimum}{most}")
        return int(text)

    return parse


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("got ''; expected the name of a folder, e.g. results/mine")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"got {shown(text)}; expected the name of a folder")
    return Path(text)


def _setting(text: str) -> str:
    if not re.match(r"[^=\s][^=]*=", text):
        raise argparse.ArgumentTypeError(f"got {shown(text)}; expected PATH=VALUE, e.g. steps=100")
    return text


# The commands


def _list(options: argparse.Namespace) -> int:
    if options.effects:
        return _effects(options)
    if options.room is None and not options.json:
        _say(definitions.overview())
        return 0
    everything = options.room in (None, "all")
    rooms = list(ROOMS) if options.room in (None, "all") else [str(options.room)]
    members_of = {room: definitions.summaries(room) for room in rooms}
    if options.json:
        _print_json(
            {
                room: [{"name": n, "summary": s} | _details(room, n) for n, s in members.items()]
                for room, members in members_of.items()
            }
        )
        return 0
    if options.room == "objectives":
        _list_objectives(members_of["objectives"])
        return 0
    for i, (room, members) in enumerate(members_of.items()):
        if everything:
            _say(("\n" if i else "") + room)
        width = max(map(len, members), default=0)
        for name, summary in members.items():
            _say(f"{'  ' if everything else ''}{name:{width}}  {readable(summary)}".rstrip())
    return 0


def _effects(options: argparse.Namespace) -> int:
    if options.room != "penalties":
        raise CommandError("--effects is for penalties; write dynamics list penalties --effects")
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamics.reports import penalties

    rows = _interruptible(penalties.effects)
    if options.json:
        _print_json(penalties.to_json(rows))
    else:
        _say(penalties.text(rows))
    return 0


def _details(room: str, name: str) -> dict[str, Any]:
    """What there is to say of a member besides its summary."""
    if room != "objectives":
        return {}
    from dynamics import catalogue

    return catalogue.objective_details(catalogue.find(room, name))


def _list_objectives(members: dict[str, str]) -> None:
    """A line for each objective, and below it what is known of it."""
    for name, summary in members.items():
        _say(f"{name:{max(map(len, members))}}  {readable(summary)}".rstrip())
        details = _details("objectives", name)
        holds = {True: "{}", False: "not {}", None: ""}
        properties = ("strictly_proper" if details.get("strictly_proper") else "proper", "symmetric", "bounded")
        words = [holds[details.get(name)].format(name.replace("_", " ")) for name in properties]
        ideal, score = details.get("ideal_discriminator_loss"), details.get("ideal_score")
        lines = {
            "losses": readable(details["losses"]),
            "divergence": details.get("divergence"),
            "ideal loss": None if ideal is None else f"{ideal:.6g} of the discriminator, at score {score:g}",
            "properties": ", ".join(filter(None, words)),
            "source": readable(details["source"]),
        }
        for label, text in lines.items():
            if text:
                _say(f"    {label:10}  {text}")


def _show(options: argparse.Namespace) -> int:
    """Print the definition of what has this name, in every room that has it; of a study in a file, the file."""
    _find_plugins(options)
    from dynamics import catalogue

    try:
        _interruptible(catalogue.plug_in, options.plugins)
    except ImportError as error:
        raise CommandError(str(error)) from error
    rooms = definitions.rooms_of(options.name)
    if not rooms:
        known = [name for room in ROOMS for name in definitions.members(room)]
        raise CommandError(
            f"nothing is called {shown(options.name)}{nearest(options.name, known)}; see dynamics list all"
        )
    texts = {room: definitions.definition(room, options.name) for room in rooms}
    if options.json:
        _print_json({"name": options.name, "definitions": texts})
    else:
        _say("\n\n".join(texts.values()))
    return 0


def _new(options: argparse.Namespace) -> int:
    """Write a study file to start from."""
    from dynamics.studies import StudyError, new

    try:
        path = new(options.path)
    except StudyError as error:
        raise CommandError(str(error)) from error
    if options.json:
        _print_json({"output": str(path)})
    else:
        _say(f"{path} has two games and three methods; edit it, then: dynamics run {path}")
    return 0


def _stability(options: argparse.Namespace) -> int:
    study = _load(options)
    from dynamics import studies

    with _bad_input():
        cells = _interruptible(studies.stabilities, study)
    from dynamics.studies import prediction

    if options.json:
        _print_json(_interruptible(lambda: prediction.to_json(study.name, cells, detail=options.detail)))
    elif options.detail or len(cells) <= FEW:
        _say(_interruptible(lambda: prediction.text(cells, detail=True)))
    else:
        _print_rich(_interruptible(prediction.table, cells))
        for remark in prediction.remarks(cells):
            _say(f"- {remark}")
    return 0


def _run(options: argparse.Namespace) -> int:
    # A folder that cannot be written should be found out before JAX is imported, and long before anything is computed.
    if options.out is not None:
        _probe(options.out)
    if options.study in EXPERIMENTS:
        return _experiment(options)
    if options.study in COMPARISONS + SURVEYS + LADDERS + SPECTRAL_STUDIES:
        return _comparison(options)
    if options.resume and options.store is None:
        raise CommandError("--resume goes on with what a store holds; name it with --store PATH")
    if options.devices and options.workers:
        raise CommandError("--devices and --workers are two ways to share the work; give one of them")
    study = _load(options, options.devices)
    from dynamics import studies
    from dynamics.reports import studies as report

    out = options.out or Path("results") / _folder_name(study.name)
    if options.out is None:
        _probe(out)
    with _bad_input():
        resolved = studies.resolved_toml(study)
        with _progress(options.quiet) as progress, _sharing(options) as sharing:
            results = _interruptible(partial(studies.execute, study, progress, **sharing))
    problems: list[tuple[str, Exception]] = []
    with _cannot_write(out):
        report.write(results, out, study=resolved, command=_command(options), problems=problems)
    unexplained = results.counts()["unexplained"]
    if options.json:
        _print_json({**results.to_dict(), "output": str(out)})
    else:
        _print_rich(report.table(results))
        _say(results.describe())
        _say(f"The report, the pictures and the data are in {out}{os.sep}")
    _raise_problems(problems, out)
    return 1 if options.strict and unexplained else 0


def _experiment(options: argparse.Namespace) -> int:
    """Train what `dynamics.experiments` has under this name."""
    out, experiment = _prepared(options)
    from dynamics import training
    from dynamics.reports import experiments as report

    problems: list[tuple[str, Exception]] = []
    with _cannot_write(out):
        if not options.resume:
            training.forget(out / report.CHECKPOINTS)
        log = training.CSVLog(out / report.LOG)
        with _progress(options.quiet) as progress:
            try:
                result = _interruptible(
                    partial(
                        experiment.train,
                        directory=out / report.CHECKPOINTS,
                        callbacks=[log],
                        progress=progress or False,
                    )
                )
            except ValueError as error:
                raise CommandError(str(error)) from error
        report.write(experiment, result, out, command=_command(options), problems=problems)
    _say_results(options, report, experiment, result, out)
    _raise_problems(problems, out)
    return 1 if options.strict and result.ending is not training.Ending.finished else 0


def _comparison(options: argparse.Namespace) -> int:
    """Compute what `dynamics.experiments` compares, surveys or climbs down under this name."""
    out, comparison = _prepared(options)
    from dynamics import ensembles
    from dynamics.reports import comparisons, ladders, spectral_studies, surveys

    modules: dict[tuple[str, ...], Any] = {
        COMPARISONS: comparisons,
        SURVEYS: surveys,
        LADDERS: ladders,
        SPECTRAL_STUDIES: spectral_studies,
    }
    report = next(module for names, module in modules.items() if options.study in names)
    problems: list[tuple[str, Exception]] = []
    with _cannot_write(out):
        cells: Path | None = out / comparisons.CELLS
        if not options.resume:
            shutil.rmtree(out / comparisons.CELLS, ignore_errors=True)
            if not ensembles.can_store():
                cells = None  # what the extra is for: nothing is kept on the way
        with _progress(options.quiet) as progress:
            try:
                dataset = _interruptible(partial(comparison.run, store=cells, progress=progress or False))
            except (ValueError, ImportError, ensembles.StoreError) as error:
                raise CommandError(str(error)) from error
        report.write(comparison, dataset, out, command=_command(options), problems=problems)
    _say_results(options, report, comparison, dataset, out)
    _raise_problems(problems, out)
    return 0


def _say_results(options: argparse.Namespace, report: Any, made: Any, result: Any, out: Path) -> None:
    """Print what a module of reports says of an experiment and its result."""
    if options.json:
        _print_json({**report.to_json(made, result), "output": str(out)})
    else:
        _say(report.summary(made, result))
        _say(f"The report, the pictures and the data are in {out}{os.sep}")


def _prepared(options: argparse.Namespace) -> tuple[Path, Any]:
    """The folder for the results, and what `dynamics.experiments` has under the name, with the settings given."""
    for name in ("workers", "devices", "store"):
        if getattr(options, name) is not None:
            raise CommandError(
                f"--{name} is for studies, and {options.study} is an experiment; it keeps what is done in --out"
            )
    out = options.out or Path("results") / options.study
    _probe(out)
    options.precision = options.precision or 32
    jax = _import_jax()
    jax.config.update("jax_enable_x64", options.precision == 64)
    _check_device()
    _find_plugins(options)
    from dynamics import catalogue, experiments

    try:
        _interruptible(catalogue.plug_in, options.plugins)
        settings = experiments.settings(options.study, options.settings)
        make = experiments.RUNNABLE[options.study]
        return out, _interruptible(partial(make, **settings))
    except (ImportError, ValueError, TypeError) as error:
        raise CommandError(str(error)) from error


def _raise_problems(problems: Sequence[tuple[str, Exception]], out: Path) -> None:
    """Raise `CommandError` for the files that could not be written, when all others have been."""
    if problems:
        names = ", ".join(name for name, _ in problems)
        error = problems[0][1]
        said = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        raise CommandError(f"{names} could not be written: {said}; all else is in {out}{os.sep}") from error


def _claims(options: argparse.Namespace) -> int:
    out = options.out or Path("results") / "claims"
    _probe(out)
    _find_plugins(options)
    _import_jax()
    _check_device("cpu")
    from concurrent.futures import BrokenExecutor

    from dynamics import catalogue, claims
    from dynamics.reports import claims as report

    try:
        _interruptible(catalogue.plug_in, options.plugins)
        chosen = claims.matching(options.pattern)
        fix = "expected fewer of them"
        check_memory(f"{counted(options.examples)} --examples", options.examples, EXAMPLE_BYTES, fix)
    except (ImportError, ValueError) as error:
        raise CommandError(str(error)) from error
    searches = claims.search_all(
        chosen, options.examples, seed=options.seed, workers=options.workers, plugins=options.plugins
    )
    results: list[Any] = []
    problems: list[tuple[str, Exception]] = []
    interrupted = False
    with _cannot_write(out):
        out.mkdir(parents=True, exist_ok=True)
        with _progress(options.quiet) as progress, contextlib.redirect_stdout(sys.stderr):
            try:
                for result in searches:
                    results.append(result)
                    report.write_data(results, out)  # whatever happens, what has been found out is kept
                    if progress is not None:
                        progress(len(results), len(chosen), result.claim.identifier)
            except KeyboardInterrupt:
                interrupted = True
            except BrokenExecutor as error:
                done = f"{len(results)} of {len(chosen)} claims are done, and in {out}{os.sep}"
                raise CommandError(f"a worker is gone ({reason(error)}); {done}") from error
        report.write(results, out, command=_command(options), problems=problems)
    if options.json:
        _print_json(report.to_json(results))
    else:
        _print_rich(report.table(results))
        if text := report.counterexamples(results):
            _say(text)
        _say(report.summary(results))
        _say(f"The report, the pictures and the data are in {out}{os.sep}")
    if interrupted:
        raise KeyboardInterrupt
    _raise_problems(problems, out)
    return 1 if options.strict and not all(result.as_expected for result in results) else 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "new": _new,
    "stability": _stability,
    "run": _run,
    "claims": _claims,
}


def _find_plugins(options: argparse.Namespace) -> None:
    """Let plugins be found in the current folder."""
    if options.plugins and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # at the end: a plugin never stands in for an installed module


@contextlib.contextmanager
def _sharing(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Who computes, and where it is kept, as arguments of `studies.execute`."""
    arguments: dict[str, Any] = {}
    if options.store is not None:
        arguments |= {"store": options.store, "resume": options.resume}
    if options.devices is not None:
        arguments["devices"] = options.devices
    if options.workers is None:
        yield arguments | ({"plugins": options.plugins} if arguments else {})
        return
    from dynamics.ensembles import WorkerError
    from dynamics.ensembles.workers import end_workers, local_workers

    executor = local_workers(options.workers)
    try:
        yield arguments | {"executor": executor, "plugins": options.plugins}
    except WorkerError as error:
        raise CommandError(str(error)) from error
    finally:
        end_workers(executor)


def _set_devices(count: int) -> None:
    """Make so many devices of the CPU, or see that there are so many others; before JAX has begun."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # JAX has begun, with as many as it has
        jax.config.update("jax_num_cpu_devices", min(count, cores))
    _check_device()
    available = len(jax.local_devices())
    if available < count:
        kind = "cores" if jax.default_backend() == "cpu" else "devices"
        raise CommandError(f"--devices is {count}; expected at most {available}, the number of {kind} here")


def _load(options: argparse.Namespace, devices: int | None = None) -> Any:
    """Set the precision, which must come before anything is computed, and load the study."""
    options.precision = options.precision or 64
    jax = _import_jax()
    jax.config.update("jax_enable_x64", options.precision == 64)
    if devices is not None:
        _set_devices(devices)
    _check_device()
    _find_plugins(options)
    with _bad_input():
        from dynamics import studies

        return _interruptible(studies.load, options.study, options.settings, options.plugins)


def _import_jax() -> Any:
    try:
        import jax
    except ValueError as error:  # of a setting in an environment variable
        raise CommandError(f"JAX cannot be imported: {reason(error)}") from error
    _keep_programs(jax)
    return jax


def _keep_programs(jax: Any) -> None:
    """Keep on disk what XLA compiles, in a folder within that of machine code; not where the user has said another.

    In a folder for this processor, as XLA's code runs on no lesser one, and this jaxlib.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    from dynamics.compiler import disk_cache

    try:
        wanted = disk_cache.wanted()
    except ValueError as error:
        raise CommandError(str(error)) from error
    if wanted is None:
        return
    try:
        from dynamics.compiler._jax import jaxlib_version
        from dynamics.compiler.llvm.processor import host

        name = disk_cache.name_of(*map(str, host()), jaxlib_version())[:16]
        folder = disk_cache.private_folder(disk_cache.private_folder(wanted) / f"xla-{name}")
        disk_cache.bound(folder)
    except Exception as error:  # of a processor that is not known, a disk that is full, a folder that others can write
        logging.getLogger(__name__).info("what XLA compiles is not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Of an entry that a process has not written to its end; the program is compiled again.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")


def _check_device(platform: str | None = None) -> None:
    """Raise `CommandError` where JAX has not got the device that is asked for, by an environment variable, say."""
    import jax

    try:
        jax.devices(platform)
    except (RuntimeError, ValueError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        fix = f"JAX_PLATFORMS is {shown(asked)}; unset it, or give another" if asked else "JAX found none"
        raise CommandError(f"there is no device {platform or asked or ''}: {fix} ({reason(error)})") from error


def _interruptible(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread of its own, so that Ctrl-C is noticed at once and not after the compiled code.

    What it prints, a plugin for instance, goes to standard error: standard output is for results.
    """
    from concurrent.futures import Future

    future: Future = Future()

    def call():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    with contextlib.redirect_stdout(sys.stderr):
        threading.Thread(target=call, daemon=True).start()
        return future.result()


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    from dynamics.studies import StudyError

    try:
        yield
    except StudyError as error:
        raise CommandError(str(error)) from error


def _command(options: argparse.Namespace) -> str:
    """What to type for the same results."""
    if options.command == "claims":
        words = ["dynamics", "claims", options.pattern, "--examples", str(options.examples)]
        words += ["--seed", str(options.seed)]
    else:
        words = ["dynamics", "run", options.study]
        for setting in options.settings:
            words += ["--set", setting]
    for plugin in options.plugins:
        words += ["--plugin", plugin]
    if options.command != "claims":  # whose precision is double
        words += ["--precision", str(options.precision)]
    return printable(shlex.join(words))


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study"


# Output


def _probe(out: Path) -> None:
    """Raise `CommandError` unless a folder of this name can be made or written to. Nothing stays behind."""
    with _cannot_write(out):
        if os.path.lexists(out) and not out.is_dir():
            raise CommandError(
                f"--out is {shown(str(out), 120)}, which is a file; expected a folder, or a name that is still free"
            )
        trial = _beside(out)
        trial.mkdir()
        trial.rmdir()


def _beside(out: Path) -> Path:
    """A free name on the file system of the folder `out`: inside it, or inside the nearest parent that exists."""
    parent = next((path for path in (out, *out.absolute().parents) if path.exists()), Path("."))
    return parent / f".dynamics.{os.getpid()}.partial"


@contextlib.contextmanager
def _cannot_write(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = error.strerror or reason(error)
        raise CommandError(
            f"--out is {shown(str(out), 120)}; expected a folder that can be written to, but: {said}"
        ) from error


def _print_json(value: Any) -> None:
    import json

    _print(json.dumps(value, indent=1, allow_nan=False))


def _print_rich(renderable: Any) -> None:
    from rich.console import Console
    from rich.segment import Segment, Segments

    # A pipe or a file has no width of its own; there nothing is cut off.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    # What somebody else has written is not obeyed by the terminal: only the colours are ours.
    parts = [
        part if part.control or part.text == "\n" else Segment(_lines(part.text), part.style)
        for part in console.render(renderable)
    ]
    with console.capture() as text:
        console.print(Segments(parts), end="")
    _print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _lines(text: str) -> str:
    return "\n".join(line if line.isprintable() else printable(line) for line in text.split("\n"))


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar in a terminal, a line for every tenth of the work otherwise; on standard error."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("compiling", total=None)
            yield lambda done, total, text: bar.update(task, completed=done, total=total, description=printable(text))


class _Lines:
    """Progress for a log: a line whenever another tenth is done, with the rate and the time left."""

    def __init__(self):
        self.tenths, self.began = -1, time.monotonic()
        print("dynamics: compiling", file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int, text: str) -> None:
        tenths = 10 * done // total if total else 10
        if tenths > self.tenths:
            self.tenths = tenths
            rate = done / max(time.monotonic() - self.began, 1e-9)
            left = f" ({rate:.3g}/s, {(total - done) / rate:.0f} s left)" if 0 < done < total else ""
            print(f"dynamics: {done}/{total} {printable(text)}".rstrip() + left, file=sys.stderr, flush=True)
