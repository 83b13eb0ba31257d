"""Who moves when, and where the direction is evaluated: one file per update, one line in this catalogue."""

from dynamics.updates.base import Clip as Clip
from dynamics.updates.base import State as State
from dynamics.updates.base import Update as Update
from dynamics.updates.simultaneous import Simultaneous as Simultaneous

from dynamics.updates.alternating import Alternating as Alternating  # isort: skip
from dynamics.updates.adaptive_competitive import AdaptiveCompetitive as AdaptiveCompetitive
from dynamics.updates.averaged import Averaged as Averaged
from dynamics.updates.extragradient import Extragradient as Extragradient
from dynamics.updates.fictitious_play import FictitiousPlay as FictitiousPlay
from dynamics.updates.lookahead import Lookahead as Lookahead
from dynamics.updates.ode_gan import ODEGAN as ODEGAN
from dynamics.updates.past_extrapolation import PastExtrapolation as PastExtrapolation
from dynamics.updates.proximal_point import ProximalPoint as ProximalPoint
from dynamics.updates.rounded import Rounded as Rounded
from dynamics.updates.runge_kutta import RungeKutta as RungeKutta
from dynamics.updates.scheduled import Scheduled as Scheduled
from dynamics.updates.with_variables import WithVariables as WithVariables
