"""Sweeps with a store: the same bits after kills and full disks, what is refused, and what can be seen meanwhile."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps
import xarray as xr

import dynamics as dy
from dynamics import optimisers
from dynamics.compiler.fingerprints import fingerprint
from dynamics.ensembles import StoreError, seeds, store
from dynamics.ensembles.store import layout_of

KILL = Path(__file__).resolve().parents[2] / "benchmarks" / "kill.py"
RATES = np.linspace(0.05, 2.05, 30)


def linear(rate):
    """A game of one player that contracts by 1 - rate."""
    return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (1.0,)


def small(path, axes=None, build=linear, progress=False, **changed):
    """A sweep of five chunks."""
    settings = dict(steps=20, predict=False, chunk=6) | changed
    return dy.sweep(build, {"rate": RATES} if axes is None else axes, store=path, progress=progress, **settings)


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch):
    sweeps.small_blocks(monkeypatch, 3)


@pytest.fixture(scope="module")
def whole():
    with pytest.MonkeyPatch.context() as patch:
        sweeps.small_blocks(patch, 3)
        return small(None)


def equal(one, other):
    """The same bits, types, dimensions and descriptions of all variables."""
    sweeps.equal(one, other)
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.variables:
        assert str(one[name].attrs) == str(other[name].attrs), name


def stop_after(count):
    def progress(done, total, text):
        progress.seen.append(done)
        if len(progress.seen) == count:
            raise KeyboardInterrupt

    progress.seen = []
    return progress


def begin(path, chunks=2):
    with pytest.raises(dy.ensembles.SweepInterrupted) as caught:
        small(path, progress=stop_after(chunks))
    return caught.value.partial


# The same bits


@pytest.mark.slow
def test_a_store_changes_nothing(tmp_path):
    def build(rate, weight, seed, start_key):
        game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight), noise=0.1, batch_size=2)
        x, y = jax.random.normal(start_key, (2,))
        sgd = optimisers.sgd(rate * (1 + jax.random.uniform(seed)))
        return game, dy.updates.Alternating(sgd, sgd), (x, y)

    rate = xr.DataArray(np.linspace(0.1, 4.0, 7), attrs={"units": "days", "long_name": "learning rate"})
    axes = {"rate": rate, "weight": 0.5, "seed": seeds(3)}
    measures = {"energy": lambda game, players: {"size": players[0] ** 2, "parts": jnp.arange(3) > players[1]}}
    common = dict(steps=30, starts=5, key=jax.random.key(2), measures=measures)
    plain = dy.sweep(build, axes, chunk=16, **common)  # the same program
    stored = dy.sweep(build, axes, chunk=20, store=tmp_path / "deep" / "run.zarr", **common)
    equal(plain, stored)
    assert len([*tmp_path.glob("deep/run.zarr/commits/[0-9].json")]) == 7
    assert json.loads(stored.attrs["settings"])["chunk"] == 15
    opened = xr.open_dataset(tmp_path / "deep" / "run.zarr", engine="zarr", decode_times=False)
    assert opened.equals(plain) and set(opened.coords) == set(plain.coords)
    other = dict(steps=30, predict=False, design="zip", chunk=6)
    for axes in ({"rate": RATES, "start": 2.0}, {"rate": 0.5, "start": 1.0}):

        def from_start(rate, start):
            return (*linear(rate)[:2], (start,))

        path = tmp_path / f"{np.size(axes['rate'])}.zarr"
        equal(dy.sweep(from_start, axes, **other), dy.sweep(from_start, axes, store=path, **other))


def test_chunks_are_boxes_and_ranges():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(rng.integers(1, 12, rng.integers(0, 4)).tolist())
        layout = layout_of(shape, int(2 ** rng.integers(0, 5)), int(rng.integers(1, 80)))
        numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        files, begin = set(), 0
        for number in range(layout.count):
            place = np.unravel_index(number, layout.grid) if shape else ()
            box = numbers[tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, layout.box))]
            first, last = layout.cells(number)
            assert first == begin < last and box.ravel().tolist() == list(range(first, last))
            assert -(-last // layout.lanes) - first // layout.lanes <= layout.blocks
            files.add(layout.file(number, 1))
            begin = last
        assert begin == numbers.size and len(files) == layout.count
    assert layout_of((1000, 1000), 256, 65_536).box == (63, 1000)


CHILD = """
import importlib.util, sys
import numpy as np
import dynamics as dy
from dynamics.ensembles import cells
cells.LANES["cpu"], cells.FEWEST_LANES = 3, 1
kill, path, operation = sys.argv[1:]
spec = importlib.util.spec_from_file_location("kill", kill)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
if int(operation):
    module.die_at(int(operation))
def linear(rate):
    return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(dy.optimisers.sgd(rate)), (1.0,)
import jax
jax.config.update("jax_enable_x64", True)
dy.sweep(linear, {"rate": np.linspace(0.05, 2.05, 30)}, store=path, steps=20, predict=False, chunk=6)
"""


@pytest.mark.slow
def test_killed_processes_lose_nothing(tmp_path, whole):
    """Killed in the middle of a file of the metadata, of a chunk's data, before a record counts, and from outside."""
    path, random = tmp_path / "run.zarr", np.random.default_rng(5)
    done = 0
    for operation in (5, int(random.integers(40, 60)), int(random.integers(10, 60)), 0, None):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(KILL), str(path), str(operation or 0)], stderr=subprocess.PIPE
        )
        if operation == 0:  # from outside, when the next record appears
            while process.poll() is None and not (path / "commits" / f"{done // 6}.json").exists():
                time.sleep(1e-4)
            process.kill()
        errors = process.communicate(timeout=100)[1].decode()
        assert process.returncode == (0 if operation is None else -signal.SIGKILL), errors
        if (path / "zarr.json").exists():
            opened = xr.open_zarr(path, chunks=None)
            shown = opened.outcome.values >= 0
            assert np.all(opened.outcome.values[~shown] == -1)
            for name in whole.data_vars:
                assert opened[name].values[shown].tobytes() == whole[name].values[shown].tobytes()
            records = len([*path.glob("commits/[0-9].json")])
            assert done <= 6 * records <= shown.sum()
            done = 6 * records
    assert done == 30
    calls = []
    equal(small(path, progress=lambda *seen: calls.append(seen)), whole)
    assert not calls


# Going on


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path, whole):
    path, progress = tmp_path / "run.zarr", stop_after(2)
    with pytest.raises(dy.ensembles.SweepInterrupted) as caught:
        small(path, progress=progress)
    assert caught.value.done == 12 and np.all(caught.value.partial.outcome[12:] == -1)

    def look(done, total, text):
        progress.seen.append(done)
        found = xr.open_zarr(path, chunks=None)
        assert np.sum(found.outcome.values >= 0) == done and "not_done" in found.outcome.attrs["flag_meanings"]
        assert np.all(np.isnan(found.player_0[done:])) and np.all(np.isfinite(found.residual[:done]))
        np.testing.assert_array_equal(found.player_0[:done], whole.player_0[:done])

    equal(small(path, progress=look, chunk=1000), whole)  # the store's chunks are kept
    assert progress.seen == [6, 12, 18, 24, 30]


@pytest.mark.slow
def test_a_finished_sweep_is_only_opened(tmp_path, whole, monkeypatch):
    path = tmp_path / "run.zarr"
    small(path)
    (path / "commits" / "lock").write_text(json.dumps({"process": 1, "machine": "elsewhere"}))  # is of no interest
    monkeypatch.setattr("dynamics.ensembles.work.run_chunk", None)  # nothing runs
    monkeypatch.setattr(store, "write_files", None)
    equal(small(path), whole)
    shutil.copytree(path, tmp_path / "moved.zarr")
    equal(small(tmp_path / "moved.zarr"), whole)


def test_what_is_damaged_is_computed_again(tmp_path, whole):
    path = tmp_path / "run.zarr"
    small(path)
    os.truncate(path / "outcome" / "c.0", 3)
    data = path / "player_0" / "c.1"
    data.write_bytes(data.read_bytes()[:-1] + b"\1")
    (path / "commits" / "2.json").unlink()
    (path / "commits" / "3.json").write_text('{"cells"')
    (path / "residual" / ".c.4.part").write_bytes(b"half")
    calls = []
    equal(small(path, progress=lambda *seen: calls.append(seen[0])), whole)
    assert calls == [12, 18, 24, 30]


# What is refused


def test_another_sweep_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "run.zarr"
    begin(path)

    def faster(rate):
        return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (1.5,)

    changed = np.where(np.arange(30) == 4, 9.0, RATES)
    for message, call in {
        "steps: 20 there, 30 here": lambda: small(path, steps=30),
        "tolerance: 0.001 there, 0.01 here": lambda: small(path, tolerance=0.01),
        "key: none there, 0 3 here": lambda: small(path, key=jax.random.key(3)),
        "dtype: float64 there, float32 here": lambda: small(path, dtype=np.float32),
        "measures: none there, size here": lambda: small(path, measures={"size": lambda game, players: players[0]}),
        "axis 'rate': 30 values from 0.05 to 2.05 there, 2 values from 0.1 to 0.2 here": lambda: small(
            path, {"rate": [0.1, 0.2]}
        ),
        r"axis 'rate': value 4 is 0\.\d+ there, 9.0 here \(1 of 30 values differ\)": lambda: small(
            path, {"rate": changed}
        ),
        "axis 'pull': only here": lambda: small(path, {"rate": RATES, "pull": 1.0}, lambda rate, pull: linear(rate)),
        "build: .*linear computed something else there than .*faster here": lambda: small(path, build=faster),
    }.items():
        with pytest.raises(ValueError, match=f"(?s)belongs to another sweep.*{message}\nGive this one another name"):
            call()
    record = store.read_record(path / "commits" / "sweep.json")
    record["attributes"]["jax"] = "0.4.1"
    (path / "commits" / "sweep.json").write_bytes(store.record_of(record))
    with pytest.raises(ValueError, match=f"jax: 0.4.1 there, {jax.__version__} here\nTo go on with it, install"):
        small(path)
    assert np.sum(xr.open_zarr(path, chunks=None).outcome >= 0) == 12


def test_programs_are_told_apart_by_their_numbers():
    matrix = np.arange(6.0).reshape(2, 3)

    def traced(matrix, factor=2.0):
        inner = jax.jit(lambda x: jnp.where(x[:2] > factor, matrix @ x, 0.0))
        return jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y + inner(x)[0], 0.0))(jnp.ones(3))

    one = fingerprint(traced(matrix), None)
    assert one == fingerprint(traced(matrix.copy()), None)
    others = [traced(matrix + np.eye(2, 3)), traced(matrix, 3.0), traced(matrix.astype(np.float32))]
    assert len({one, *(fingerprint(other, None) for other in others)}) == 4
    assert fingerprint(others[0], np.ones(2)) != fingerprint(others[0], np.zeros(2))


@pytest.mark.slow
def test_two_processes_do_not_write_to_one_store(tmp_path, whole):
    path = tmp_path / "run.zarr"

    def again(done, total, text):
        if done == 6:
            with pytest.raises(StoreError, match=f"is being written by process {os.getpid()} on .*wait for it"):
                small(path)

    equal(small(path, progress=again), whole)
    lock = path / "commits" / "lock"
    assert lock.read_text() == ""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (path / "commits" / "4.json").unlink()
    lock.write_text(json.dumps({"process": gone.pid, "machine": "elsewhere"}))
    with pytest.raises(StoreError, match=f"process {gone.pid} on elsewhere.*delete .*lock"):
        small(path)
    lock.write_text(lock.read_text().replace("elsewhere", os.uname().nodename))
    equal(small(path), whole)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("")
    xr.Dataset({"x": 1}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    for path, kind, message in (
        (tmp_path / "file", StoreError, "is a file; a store is a folder"),
        (tmp_path / "file" / "run.zarr", StoreError, "Not a directory"),
        (tmp_path / "folder", ValueError, "holds something else"),
        (tmp_path / "other.zarr", ValueError, "not of a sweep"),
        ("s3://bucket/run.zarr", ValueError, "a folder on this machine"),
        (3, ValueError, "store is 3"),
    ):
        with pytest.raises(kind, match=message):
            small(path)
    assert (tmp_path / "folder" / "letter").exists()


# Full disks


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path, whole, monkeypatch):
    path, write = tmp_path / "run.zarr", store.write_files
    for number, chunk, words in (
        (errno.ENOSPC, "outcome/zarr.json", "No space left.*make room"),
        (errno.ENOSPC, "c.3", "No space left.*18 of 30 cells are in it and are kept; make room"),
        (errno.EACCES, "commits/4.json", "Permission denied.*24 of 30 cells.*see to it that"),
    ):

        def full(files, number=number, chunk=chunk):
            if any(file.match(chunk) for file, _ in files):
                raise OSError(number, os.strerror(number), chunk)
            write(files)

        monkeypatch.setattr(store, "write_files", full)
        with pytest.raises(StoreError, match=words) as caught:
            small(path)
        assert isinstance(caught.value, OSError) and caught.value.errno == number
    monkeypatch.setattr(store, "write_files", write)
    equal(small(path), whole)


@pytest.mark.slow
def test_a_limit_on_files_in_the_middle_of_one(tmp_path, whole):
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "run.zarr", resource.getrlimit(resource.RLIMIT_FSIZE)

    def narrow(done, total, text):
        if done == 12:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))

    try:
        with pytest.raises(StoreError, match="File too large.*12 of 30 cells are in it and are kept; allow larger"):
            small(path, progress=narrow)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*path.glob("*/.*.part")]
    equal(small(path), whole)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_without_permission(tmp_path, whole):
    path = tmp_path / "run.zarr"
    begin(path)
    for folder in (tmp_path, path / "commits", path / "outcome"):
        folder.chmod(0o500)
        try:
            with pytest.raises(StoreError, match="Permission denied.*see to it"):
                small(tmp_path / "new.zarr" if folder == tmp_path else path)
        finally:
            folder.chmod(0o700)
    equal(small(path), whole)
