"""How far long work is: a bar in terminals and notebooks, lines in a log, or whatever the caller makes of it."""

import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import tqdm

Progress = Callable[[int, int, str], None]
LINE_SECONDS = 10.0  # between two lines of a log


class Shown:
    """Shows how far it is: as a bar, as lines, by calling a function, or not at all.

    Args:
        progress: whether to show anything, or what to call with the units done, their total and a text.
        total: number of units.
        done: how many of them are done already.
        label: what is done.
        unit: of the work: a cell of a sweep, a step of a training, a run.
    """

    def __init__(self, progress: bool | Progress, total: int, done: int = 0, label: str = "sweep", unit: str = "cell"):
        self.progress, self.total = progress, total
        self.bar: Any = None
        if progress and not callable(progress):
            kind = _bar()
            if kind is None:
                self.bar = Lines(total, done, label, unit)
            else:
                self.bar = kind(total=total, initial=done, unit=unit, desc=label)

    def __enter__(self) -> Callable[[int, str], None]:
        return self.show

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, done: int, text: str) -> None:
        """So many units are done, and what there is to say of them."""
        if callable(self.progress):
            self.progress(done, self.total, text)
        elif self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.bar.n)


class Lines:
    """A line now and then, for logs: units done, rate, time left, and a text.

    Args:
        total, done: numbers of units.
        label: what is done.
        unit: what is counted.
        seconds: between two lines; the first and the last one are always there.
    """

    def __init__(
        self, total: int, done: int = 0, label: str = "sweep", unit: str = "cell", seconds: float = LINE_SECONDS
    ):
        self.total, self.n, self.label, self.unit, self.seconds = total, done, label, unit, seconds
        self.first, self.began, self.last, self.text = done, time.monotonic(), None, ""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """What there is to say."""
        self.text = text

    def update(self, more: int) -> None:
        """So many more units are done."""
        self.n += more
        now = time.monotonic()
        if self.last is not None and self.n < self.total and now - self.last < self.seconds:
            return
        self.last = now
        rate = (self.n - self.first) / max(now - self.began, 1e-9)
        left = tqdm.tqdm.format_interval((self.total - self.n) / rate) if rate else "?"
        line = f"{self.label}: {self.n}/{self.total} {self.unit}s, {rate:.4g} {self.unit}/s, {left} left; {self.text}"
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """There is nothing to close."""


def _bar() -> Any:
    """The kind of bar for where this is shown, `None` for none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and "IPKernelApp" in getattr(shell, "config", {}):
        # Without widgets the bar of a terminal shows as well in a notebook.
        if importlib.util.find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as widget

            return widget
        return tqdm.tqdm
    return tqdm.tqdm if sys.stderr.isatty() else None
