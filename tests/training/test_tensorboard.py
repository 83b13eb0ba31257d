"""Logs for TensorBoard, read back record by record. Skipped without the extra `tensorboard`."""

import struct
import sys

import jax
import pytest

import dynamics as dy
from tests.training.trainings import small


def events(folder):
    """All events of a folder, in the order in which TensorBoard reads them: by name, record by record."""
    from tensorboardX.proto.event_pb2 import Event

    read = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            read.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return read


def shown(folder):
    """What TensorBoard shows: a start of a session hides what was written before of its step and of later ones."""
    points = {}
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            points = {place: value for place, value in points.items() if place[1] < event.step}
        for value in event.summary.value:
            points[value.tag, event.step] = value.simple_value
    return points


def test_the_extra_is_named_where_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    expected = 'TensorBoardLog needs tensorboardX, which is not installed; pip install "dynamics\\[tensorboard\\]"'
    with pytest.raises(ImportError, match=expected):
        dy.training.TensorBoardLog("log")


def test_a_log_that_goes_on_hides_what_it_writes_again(tmp_path):
    """As when a training was killed after step 10, with the checkpoint of step 0: and within one second."""
    pytest.importorskip("tensorboardX")
    first, second = (dy.training.TensorBoardLog(tmp_path / "new", prefix="ring/") for _ in range(2))
    for step in (0, 5, 10):
        first(step, None, {"loss_0": 1.0 + step})
        assert ("ring/loss_0", step) in shown(tmp_path / "new")  # on the disk already
    second(5, None, {"loss_0": -1.0})
    assert shown(tmp_path / "new") == {("ring/loss_0", 0): 1.0, ("ring/loss_0", 5): -1.0}
    second(0, None, {"loss_0": 7.0})  # a training that begins with the same object
    assert shown(tmp_path / "new") == {("ring/loss_0", 0): 7.0}
    first.close()
    second.close()
    second.close()
    assert len(list((tmp_path / "new").iterdir())) == 3


@pytest.mark.slow
def test_a_training_is_logged(tmp_path):
    pytest.importorskip("tensorboardX")
    game, update, players, data = small()
    log = dy.training.TensorBoardLog(tmp_path)
    training = dy.train(game, update, players, steps=6, every=3, key=jax.random.key(3), data=data, callbacks=[log])
    log.close()
    points = shown(tmp_path)
    assert sorted({step for _, step in points}) == [0, 3, 6]
    for row, step in enumerate((0, 3, 6)):
        for player in range(2):
            assert points[f"loss_{player}", step] == pytest.approx(float(training.losses[row, player]), rel=1e-6)
