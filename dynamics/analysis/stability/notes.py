"""What a reader of a stability report should know."""

import enum


class Verdict(enum.StrEnum):
    """Whether training stays near the point.

    * `stable`: it stays near, and comes to the point (on a manifold of equilibria: to one of its points);
    * `unstable`: it leaves, from starts arbitrarily close to the point;
    * `neutral`: it stays near, and neither comes to the point nor leaves: something is conserved;
    * `marginal`: not decided; a note says why.
    """

    stable = "stable"
    unstable = "unstable"
    marginal = "marginal"
    neutral = "neutral"


class Note(enum.Enum):
    """The notes there are; the value is the text, with places for what is filled in.

    >>> Note.kinked.filled().note.name
    'kinked'
    """

    manifold = (
        "The point lies on a manifold of equilibria of dimension {dimension}: the neutral directions along it do "
        "not count, and stable means that training ends somewhere on it."
    )
    kept_memory = "The memory stays where it is put in {kept} directions (a running maximum does); they do not count."
    not_at_rest = "The method does not rest along the whole manifold of the game's equilibria: the directions count."
    no_equilibrium = "The point is no equilibrium of the game: its field has norm {residual:.3g} there."
    fading = (
        "Eigenvalues next to 1 belong to weights that fade like one over the number of steps: what they average "
        "settles as slowly, at no geometric rate."
    )
    marginal = (
        "The outermost eigenvalue cannot be told from the stability boundary: the linear part does not decide, "
        "nonlinear terms do."
    )
    not_decided = "Higher orders do not decide either: {reason}."
    many_digits = (
        "Decided by the eigenvalues in {digits} digits, of the map with the numbers that it has: the outermost is "
        "{distance:.3g} off the boundary, which bounds in double precision could not tell; {verdict}."
    )
    rounded = (
        "In {digits} digits the outermost eigenvalue is {distance:.3g} {side} the boundary: no more than rounding of "
        "the game's own numbers leaves of an eigenvalue on it."
    )
    opposed = (
        "In many digits the outermost eigenvalue is {distance:.3g} off the boundary, and by itself {linear}; the terms "
        "of higher order by themselves are {nonlinear}. What is seen in double precision is the latter, and the former "
        "in a tiny neighbourhood of the point: not decided."
    )
    higher_order = (
        "Decided by the term of order {order} on the centre manifold, computed in {digits} digits: the distance r of "
        "the players changes by {equation} per {unit}. The eigenvalues on the boundary are known to be there up to an "
        "error that could outweigh this term within {within:.1g} of the point."
    )
    second_order = (
        "Decided by the terms of second order on the centre manifold, computed in {digits} digits: "
        "x' = {coefficient:.6g} x^2 per {unit}, which leaves on one side. The eigenvalue is known to be on the "
        "boundary up to an error that could outweigh these terms within {within:.1g} of the point."
    )
    conserved = "Neutral: {what} (its change at random points is at most {change:.1g} of its terms)."
    hidden_manifold = (
        "That there is this manifold is seen in {digits} digits only: {what} (its change at random points is at most "
        "{change:.1g} of its terms), which leaves no motion along the one neutral direction."
    )
    kinked = (
        "One-sided derivatives differ at the point (a kink): the eigenvalues hold on one side only and do not decide."
    )
    pieces = (
        "The map has a kink at the point: {count} pieces with Jacobians of their own were found. Whatever their "
        "order, the joint rate lies between {lower:.6g} and {upper:.6g}; {verdict}."
    )
    discontinuous = (
        "The field jumps at the point: there is no linearisation, the eigenvalues describe a neighbour of the map "
        "only and do not decide."
    )
    jump_undecided = "What the jump does is not decided: {reason}."
    escaping = (
        "The field jumps at the point, and on one side of a switch it leads away from its surface, at speed "
        "{speed:.6g}: from any start there, however close, it leaves at that speed, and no linear part decides."
    )
    leaving_ray = (
        "The field jumps at the point, and along a ray it leads away from it, at speed {speed:.6g}, however close the "
        "start: no linear part decides."
    )
    sliding = (
        "The field jumps at the point, and leads towards the surfaces of the switches there, at speed {speed:.6g} or "
        "more: training reaches them in finite time and slides along them (Filippov's solution). Eigenvalues are those "
        "of the sliding field."
    )
    reached = (
        "The field jumps at the point, and leads towards the surfaces of the switches there, at speed {speed:.6g} or "
        "more, which meet in the point alone: training reaches it in finite time, and stays (Filippov's solution)."
    )
    slides_away = (
        "The field jumps at the point, where training reaches the surfaces of the switches and slides along them, at "
        "velocity {speed:.6g}: the point is no equilibrium of the sliding motion (Filippov's solution)."
    )
    chattering = (
        "The map jumps at the point: from starts arbitrarily close a step goes as far as {distance:.6g}, so that it is "
        "unstable, whatever the eigenvalues of its pieces. All sides lead back to the surfaces of the switches there: "
        "training jumps about them, in a band of width {band} at most, to first order in the step, and moves along "
        "them {along}."
    )
    jumping_map = (
        "The map jumps at the point: from starts arbitrarily close a step goes as far as {distance:.6g}, so that it is "
        "unstable, whatever the eigenvalues of its pieces{more}."
    )
    stiff = (
        "Difference quotients disagree with the Jacobian: it holds in a tiny neighbourhood only. Losses that bend "
        "on a tiny scale do this, and Adam or RMSProp with a small eps at a zero gradient."
    )
    inconsistent = (
        "Difference quotients disagree with the Jacobian at every distance at which the arithmetic allows a "
        "comparison: the eigenvalues are not those of the map, and do not decide. Derivative rules that are no "
        "derivative do this, and large terms that cancel."
    )
    rules = "Derivative rules of its own has {names}."
    rounding = (
        "The map is that without rounding: in finite precision it is constant between its jumps, and near the point "
        "there is a floor (dynamics.rounding_floor), or steps that move nothing."
    )
    not_proved = (
        "The verdict is computed, not proved: the outermost eigenvalue is {margin:.3g} off the boundary, with an "
        "error of about {error:.1g} by its condition number; missing is a bound for all matrices within the "
        "rounding of the Jacobian."
    )
    vanishing_memory = (
        "At the equilibrium the optimiser's memory of squared gradients vanishes, and the Jacobian is taken in "
        "that limit: there the step is learning rate / eps. Where that makes the point unstable, a larger eps or a "
        "smaller rate makes it stable; gradient_noise=... shows the spectrum that minibatch noise leads to."
    )
    given_state = (
        "The state is taken as it is, memory and counters included. One step moves it by {moved:.3g}: the eigenvalues "
        "say how a small perturbation of this state grows over this step, and nothing of later steps."
    )
    undecided = (
        "Not decided: the {name} is between {lower:.8g} and {upper:.8g}. More products (leading=Leading(products=..., "
        "bound=...)) or float64 narrow this, unless the linear part does not decide."
    )
    thin_cones = (
        "The step has {count} switches between smooth pieces, as of a ReLU, and was tried along {directions} "
        "directions: a kink at this very point, in a cone that these miss, would not be seen."
    )
    not_probed = (
        "Difference quotients were not taken, as was asked for: whether the Jacobian is that of the step around the "
        "point was not looked at, and there is no verdict."
    )
    not_converged = (
        "{count} of the eigenvalues have larger residuals than asked for after {products} products: the budget was too "
        "small, or rounding is larger than that."
    )
    automatic = (
        "A dense Jacobian of {size} numbers takes {gigabytes:.3g} GB and about {minutes:.2g} minutes: only leading "
        "eigenvalues were computed. leading=... says how many."
    )
    not_differentiable = (
        "The Jacobian is not finite: the map is not differentiable at the point. Adam with eps=0 and eps_root=0 "
        "does this where the gradient vanishes; pass a positive eps."
    )

    def filled(self, **values: object) -> "Remark":
        """The note as text, with these values."""
        return Remark(self.value.format(**values), self)


class Remark(str):
    """A text that knows which note it is; `note` is `None` for a text of another origin."""

    note: Note | None

    def __new__(cls, text: str, note: Note | None = None) -> "Remark":
        remark = super().__new__(cls, text)
        remark.note = note
        return remark


def has(notes: tuple[str, ...], note: Note) -> bool:
    """Whether a note is among those of a report."""
    return any(getattr(text, "note", None) is note for text in notes)
