"""Hypothesis strategies for numbers, matrices, games, updates and starts; they shrink to what a reader can check.

>>> from hypothesis import find
>>> find(numbers(0.3, 4.0), lambda number: number > 1.2)
2.0
"""

from typing import NoReturn

from dynamics._names import nearest
from dynamics.strategies.games import PerturbedQuadratic as PerturbedQuadratic
from dynamics.strategies.games import bilinear_games as bilinear_games
from dynamics.strategies.games import cocoercive_games as cocoercive_games
from dynamics.strategies.games import dirac_gans as dirac_gans
from dynamics.strategies.games import general_sum_games as general_sum_games
from dynamics.strategies.games import hamiltonian_games as hamiltonian_games
from dynamics.strategies.games import monotone_games as monotone_games
from dynamics.strategies.games import potential_games as potential_games
from dynamics.strategies.games import quadratic_games as quadratic_games
from dynamics.strategies.games import rates as rates
from dynamics.strategies.games import realisable_gans as realisable_gans
from dynamics.strategies.games import shown as shown
from dynamics.strategies.games import starts as starts
from dynamics.strategies.games import strongly_monotone_games as strongly_monotone_games
from dynamics.strategies.games import updates as updates
from dynamics.strategies.games import zero_sum_games as zero_sum_games
from dynamics.strategies.matrices import arrays as arrays
from dynamics.strategies.matrices import definite_matrices as definite_matrices
from dynamics.strategies.matrices import matrices_with_singular_values as matrices_with_singular_values
from dynamics.strategies.matrices import numbers as numbers
from dynamics.strategies.matrices import rotations as rotations
from dynamics.strategies.matrices import several as several
from dynamics.strategies.matrices import signed as signed


def __getattr__(name: str) -> NoReturn:
    names = [public for public in globals() if not public.startswith("_")]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, names)}")
