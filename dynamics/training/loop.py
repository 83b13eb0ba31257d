"""The loop of a training: many steps in one compiled program, evaluations in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, as_whole, described
from dynamics._compiling import cheap_jit
from dynamics._progress import Progress as ProgressFunction
from dynamics._progress import Shown
from dynamics.compiler.fingerprints import fingerprint
from dynamics.data import Batches, DataSet
from dynamics.distributions import Points
from dynamics.game import Game, Players
from dynamics.simulation import start_state
from dynamics.training.callbacks import Callback
from dynamics.training.checkpoints import Checkpoints, Progress, numbers_of, versions
from dynamics.training.generating import gan_of, with_data
from dynamics.training.result import Ending, Training
from dynamics.updates.base import State, Update
from dynamics.updates.with_variables import for_game, game_at

Metric = Callable[[Game, Players, PRNGKeyArray], Any]
METRIC_KEYS = np.uint32(2**32 - 1)  # folded into the key for those of metrics; steps are less than 2^31


class _Carry(eqx.Module):
    """What goes through the loop, apart from the step's number."""

    state: State
    average: PyTree | None


def train(
    game: Game,
    update: Update,
    players: Any,
    *,
    steps: int,
    key: PRNGKeyArray,
    data: Batches | None = None,
    average: float | Array | None = None,
    metrics: Mapping[str, Metric] | None = None,
    every: int | None = None,
    directory: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | ProgressFunction = False,
) -> Training:
    r"""Train a game on batches of data, with metrics, an average of the generator, and checkpoints.

    Step t is `update.step(game, state, fold_in(key, t))`, as in `simulate`, with batch t of the data as the data of the
    GAN; an update of several inner steps sees the same batch in all of them. All steps between two evaluations are one
    compiled program, the same for any number of them and for other numbers in game and update: the same key gives the
    same numbers, whatever `every` is.

    Args:
        game: a `GAN`, or with `data=None` any game.
        update: any update; within `dynamics.updates.WithVariables` where the game has variables.
        players: a tuple with a pytree per player, or `training.state` to go on.
        steps: number of steps, counted from the beginning, those of a checkpoint included.
        key: random key of minibatches, latents and metrics.
        data: where batches come from; `None`: the game draws them from its own data.
        average: decay $\beta$, >= 0 and < 1, of an exponential moving average of player 0, the generator,
            $\bar x_{t+1} = \beta \bar x_t + (1 - \beta) x_{t+1}$, which starts at the start. It does not act back.
        metrics: functions `(game, players, key)` of the players, with the average in place of player 0 where there is
            one, by name; each returns a number, or a dictionary or named tuple of numbers. They run outside of the
            compiled program, with a key of their own for each evaluation.
        every: losses and metrics are taken every so many steps, at the start and at the end; default a twentieth of the
            steps. Losses are those of the batch of the next step.
        directory: folder for checkpoints, one at every evaluation; the same call goes on from there, to the same bits,
            whenever the process ended before. With more steps it goes on for longer.
        callbacks: called at every evaluation; see `Callback`.
        progress: a progress bar with the losses, or what to call with the steps done, their total and a text.

    Returns:
        a `Training`. Where parameters are no finite numbers after a step the training ends with the state before it.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: a number is out of bounds, the start does not fit the game, or the directory holds another training.

    Source of the average: Yazici, Foo, Winkler, Yap, Piliouras, Chandrasekhar, The Unusual Effectiveness of Averaging
    in GAN Training, 2019.

    >>> import optax, dynamics as dy
    >>> game = dy.games.RingGAN(jax.random.key(0), width=4, depth=1)
    >>> batches = dy.data.Batches(dy.data.ring(jax.random.key(1), 256), 64, jax.random.key(2))
    >>> update = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.1))
    >>> training = train(game, update, game.start(jax.random.key(3)), steps=20, key=jax.random.key(4), data=batches)
    >>> training.losses.shape, training.ending.name
    ((21, 2), 'finished')
    """
    if not isinstance(update, Update):
        raise TypeError(f"update is {described(update)}; expected one of dynamics.updates")
    steps = as_whole("steps", steps)
    if steps >= 2**31:
        raise ValueError(f"steps is {steps}; expected fewer than 2^31")
    every = max(1, steps // 20) if every is None else as_whole("every", every)
    if data is not None:
        _check_batches(data)
        gan_of(game, "data=")
    measures = dict(metrics or {})
    for name, metric in measures.items():
        if not callable(metric):
            raise TypeError(f"metrics[{name!r}] is {described(metric)}; expected a function (game, players, key)")
    update = for_game(game, update)
    state = start_state(game, update, players)
    dtype = _trees.float_dtype(state.players)
    game, update = _trees.cast((game, update), dtype)
    data = None if data is None else jax.tree.map(jnp.asarray, data)
    decay = None if average is None else _decay(average, dtype)
    carry = _Carry(state, None if decay is None else state.players[0])
    count = len(state.players)

    checkpoints, at = None, None
    if directory is not None:
        identity = _identity(game, update, data, decay, key, carry, every, list(measures))
        checkpoints = Checkpoints(directory, identity)
        at = checkpoints.read(carry)
    if at is None:
        at = Progress(carry, 0, True, [], np.empty((0, 1 + count)))
    if at.step > steps:
        raise ValueError(f"directory {str(directory)!r} is at step {at.step}, and steps is {steps}; expected no fewer")
    # An evaluation at an end that was not the end after all.
    at.history = at.history[(at.history[:, 0] % every == 0) | (at.history[:, 0] == steps) | (not at.finite)]

    with Shown(progress, steps, at.step, "training", "step") as show:

        def evaluate() -> None:
            losses = np.asarray(_losses(game, data, key, at.carry.state, jnp.asarray(at.step, jnp.int32)), np.float64)
            values = {f"loss_{player}": float(loss) for player, loss in enumerate(losses)}
            if at.finite:
                values |= _measured(measures, game, at.carry, jax.random.fold_in(_metric_key(key), at.step))
            else:
                values |= dict.fromkeys(at.names[count:], float("nan"))
            if not len(at.history):
                at.names, at.history = list(values), np.empty((0, 1 + len(values)))
            if list(values) != at.names:
                raise ValueError(
                    f"metrics returned {list(values)[count:]} and before {at.names[count:]}; expected the same"
                )
            at.history = np.vstack([at.history, [at.step, *values.values()]])
            for callback in callbacks:
                callback(at.step, at.carry.state, dict(values))
            if checkpoints is not None:
                checkpoints.write(at)
            show(at.step, " ".join(f"{name} {value:.4g}" for name, value in values.items()))

        if not len(at.history):
            evaluate()
        while at.step < steps and at.finite:
            until = min(steps, (at.step // every + 1) * every)
            here, end = (jnp.asarray(number, jnp.int32) for number in (at.step, until))
            at.carry, here, finite = _advance(game, update, data, decay, key, at.carry, here, end)
            at.step, at.finite = int(here), bool(finite)
            if at.history[-1, 0] != at.step:
                evaluate()
            elif checkpoints is not None:  # the very next step failed
                checkpoints.write(at)

    columns = dict(zip(at.names, at.history[:, 1:].T, strict=True))
    losses = np.stack([columns.pop(f"loss_{player}") for player in range(count)], axis=1)
    ending = Ending.finished if at.finite else Ending.not_finite
    return Training(
        at.carry.state, at.carry.average, at.step, ending, at.history[:, 0].astype(np.int64), losses, columns
    )


def _check_batches(data: Any) -> None:
    if not isinstance(data, Batches):
        hint = "dynamics.data.Batches(data, 64, jax.random.key(0))"
        what = f"the data set {data.name!r}" if isinstance(data, DataSet) else described(data)
        raise TypeError(f"data is {what}; expected batches of it, e.g. {hint}")


def _decay(average: Any, dtype: Any) -> Array:
    decay = as_leaf(average)
    if jnp.shape(decay) != () or not 0 <= float(decay) < 1:
        raise ValueError(f"average is {average}; expected a decay >= 0 and < 1, e.g. 0.999, or None")
    return decay.astype(dtype)


def _metric_key(key: PRNGKeyArray) -> PRNGKeyArray:
    return jax.random.fold_in(key, METRIC_KEYS)


def _with_batch(game: Game, batch: PyTree | None) -> Game:
    return game if batch is None else with_data(game, Points(batch))


def _steps(
    game: Game,
    update: Update,
    data: Batches | None,
    decay: Array | None,
    key: PRNGKeyArray,
    carry: _Carry,
    step: Array,
    until: Array,
) -> tuple[_Carry, Array, Array]:
    """Steps up to a number of them, or to the last one that gives finite numbers."""

    weight = None if decay is None else 1 - decay

    def order_of(step: Array) -> tuple[Array, Array] | None:
        return None if data is None else (step // data.per_epoch, data.order(step // data.per_epoch))

    def batch_of(step: Array, drawn: Any) -> tuple[PyTree | None, Any]:
        """The batch, and the order of its epoch, which costs more than a step of a small game."""
        if data is None:
            return None, None
        drawn = jax.lax.cond(step // data.per_epoch == drawn[0], lambda: drawn, lambda: order_of(step))
        rows = data.rows(drawn[1], step)
        return jax.tree.map(lambda leaf: leaf[rows], data.values), drawn

    def body(loop: Any) -> Any:
        carry, step, _, drawn = loop
        batch, drawn = batch_of(step, drawn)
        new = update.step(_with_batch(game, batch), carry.state, jax.random.fold_in(key, step))
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new.players)]).all()
        mean = carry.average
        if weight is not None:
            mean = jax.tree.map(lambda a, b: a + weight * (b - a), mean, new.players[0])
        carry = jax.tree.map(partial(jnp.where, finite), _Carry(new, mean), carry)
        return carry, step + finite.astype(step.dtype), finite, drawn

    def goes_on(loop: Any) -> Array:
        return (loop[1] < until) & loop[2]

    carry, step, finite, _ = jax.lax.while_loop(goes_on, body, (carry, step, jnp.asarray(True), order_of(step)))
    return carry, step, finite


_advance = cheap_jit(_steps)


@cheap_jit
def _losses(game: Game, data: Batches | None, key: PRNGKeyArray, state: State, step: Array) -> Array:
    """The losses at a state, of the batch and with the key of the step that follows."""
    game = _with_batch(game_at(game, state), None if data is None else data.at(step))
    return jnp.stack(game.losses(state.players, jax.random.fold_in(key, step)))


def _measured(measures: dict[str, Metric], game: Game, carry: _Carry, key: PRNGKeyArray) -> dict[str, float]:
    """What the metrics return, each number by its name."""
    players = carry.state.players
    players = players if carry.average is None else (carry.average, *players[1:])
    values: dict[str, float] = {}
    for number, (name, metric) in enumerate(measures.items()):
        result = metric(game_at(game, carry.state), players, jax.random.fold_in(key, number))
        fields = getattr(result, "_asdict", None)
        result = fields() if fields is not None else result
        parts = (
            {f"{name}.{part}": one for part, one in result.items()} if isinstance(result, Mapping) else {name: result}
        )
        for label, value in parts.items():
            if np.ndim(value) or not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)):
                raise TypeError(f"metrics[{name!r}] returned {described(value)} as {label}; expected one real number")
            values[label] = float(value)
    return values


def _identity(
    game: Game,
    update: Update,
    data: Batches | None,
    decay: Array | None,
    key: PRNGKeyArray,
    carry: _Carry,
    every: int,
    names: list[str],
) -> dict[str, Any]:
    """What decides the numbers of a training, as plain data."""
    step = jnp.asarray(0, jnp.int32)
    arguments = game, update, data, decay, key, carry, step, step
    program = eqx.filter_make_jaxpr(_steps)(*arguments)[0]
    return {
        "program": fingerprint(program, ()),
        "game": numbers_of(game),
        "update": numbers_of(update),
        "data": None if data is None else numbers_of(data),
        "start": numbers_of(carry.state),
        "average": None if decay is None else float(decay),
        "key": numbers_of(key),
        "every": every,
        "metrics": names,
        "backend": jax.default_backend(),
        "versions": versions(),
    }
