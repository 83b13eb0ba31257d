"""Who moves when, and where the direction is evaluated: one file per update, one line in this catalogue."""

from dynamics.updates.base import Clip as Clip
from dynamics.updates.base import State as State
from dynamics.updates.base import Update as Update
from dynamics.updates.simultaneous import Simultaneous as Simultaneous

from dynamics.updates.alternating import Alternating as Alternating  # isort: skip
from dynamics.updates.extragradient import Extragradient as Extragradient
