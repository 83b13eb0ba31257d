"""Checks of one's own method or game: what it promises as a program, and what it does to games.

`check_update` and `check_game` answer; `test_of_update` and `test_of_game` make a pytest test of it in one line.
"""

from dynamics.checks.check import check_game as check_game
from dynamics.checks.check import check_update as check_update
from dynamics.checks.check import test_of_game as test_of_game
from dynamics.checks.check import test_of_update as test_of_update
from dynamics.checks.results import Check as Check
from dynamics.checks.results import Checks as Checks
