"""Processes that tests start."""

import sys

# A process that was started in the background of a script ignores interrupts, and so do those that it starts.
_MAIN = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("dynamics", run_name="__main__", alter_sys=True)
"""
INTERRUPTIBLE = [sys.executable, "-c", _MAIN]  # the command line, whatever the tests were started by
