"""The only loop of the library: a scan for updates, a diffrax solve for flows.

`simulate.py` checks what is given, `maps.py` and `flows.py` run it, `ending.py` takes what is asked at the end, and
`second_look.py` decides what is in doubt.
"""

from dynamics.outcomes import Outcome as Outcome
from dynamics.simulation.result import Measure as Measure
from dynamics.simulation.result import Run as Run
from dynamics.simulation.simulate import simulate as simulate
from dynamics.simulation.simulate import start_state as start_state
