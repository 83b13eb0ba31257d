"""Stores with files that were changed, cut, lost or exchanged: the same numbers as ever or a message, never others."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import sweeps
import xarray as xr
from study_samples import small_toml

import dynamics as dy
from dynamics import optimisers, studies
from dynamics.ensembles import StoreError, running, seeds, store
from dynamics.studies import engine, kept

AXES = {"rate": np.linspace(0.05, 2.05, 6), "seed": seeds(2), "weight": 0.5}


def build(rate, seed, weight):
    return dy.games.Quadratic([[weight]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (1.0,)


def swept(path, **changed):
    return dy.sweep(build, AXES, **dict(steps=20, predict=False, chunk=6, store=path) | changed)


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Small blocks, and one trace for all calls: it depends on what is swept only."""
    traced, known = running.Plan.traced, {}

    def once(plan):
        sign = plan.recipe.steps, plan.recipe.dtype
        if sign not in known:
            known[sign] = traced(plan)
        return known[sign]

    with pytest.MonkeyPatch.context() as patch:
        sweeps.small_blocks(patch, 3)
        patch.setattr(running.Plan, "traced", once)
        yield


@pytest.fixture(scope="module")
def finished(traced_once, tmp_path_factory):
    """A finished store, what is in it, and the bytes of all its files."""
    path = tmp_path_factory.mktemp("finished") / "run.zarr"
    found = swept(path).load()
    return path, found, contents(path)


def contents(path):
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def flipped(content, chance):
    place, mask = int(chance.integers(len(content))), int(chance.integers(1, 256))
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


DAMAGES = {
    "flipped": flipped,
    "cut": lambda content, chance: content[: len(content) // 2],
    "emptied": lambda content, chance: b"",
    "longer": lambda content, chance: content + b"1",
    "deleted": lambda content, chance: None,
}


def damaged(path, name, new):
    if new is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(new)


def check(path, name, whole, files):
    """The right numbers, or an error that names the file; what was whole is untouched; the advice helps."""
    try:
        found = swept(path)
    except (StoreError, ValueError) as error:
        assert isinstance(error, StoreError) and str(error).startswith("store=") and name in str(error), error
        assert name.endswith("zarr.json"), (name, error)  # all else is computed, and written, again
        after = contents(path)
        assert all(after[other] == files[other] for other in files if other != name), name
        (path / name).unlink()  # as it says
        found = swept(path)
    sweeps.equal(found, whole)
    after = contents(path)
    assert set(after) == set(files), name
    assert all(after[other] == files[other] for other in files if other not in (name, "commits/lock")), name
    sweeps.equal(xr.open_zarr(path, chunks=None), whole)


@pytest.mark.slow_cases("longer", "deleted", "flipped", "emptied")
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_damaged(damage, finished, tmp_path):
    original, whole, files = finished
    chance = np.random.default_rng(len(damage))
    path = tmp_path / "run.zarr"
    shutil.copytree(original, path)
    for name, content in files.items():
        new = DAMAGES[damage](content, chance) if content else b"1"
        damaged(path, name, new)
        if "/c" in name and "commits/" not in name and new is not None:
            with pytest.raises(ValueError):  # of zarr, for those who open the folder without dynamics
                xr.open_zarr(path, chunks=None).load()
        check(path, name, whole, files)


def test_files_exchanged(finished, tmp_path):
    original, whole, files = finished
    path = tmp_path / "run.zarr"
    shutil.copytree(original, path)
    for one, other in [
        ("outcome/c.0.0", "outcome/c.1.0"),
        ("player_0/c.0.0", "player_0/c.1.0"),
        ("player_0/c.0.0", "residual/c.0.0"),
        ("commits/0.json", "commits/1.json"),
        ("rate/c.0", "weight/c"),
    ]:
        damaged(path, one, files[other])
        damaged(path, other, files[one])
        sweeps.equal(swept(path), whole)
        assert contents(path) == files
    damaged(path, "rate/zarr.json", files["seed/zarr.json"])
    check(path, "rate/zarr.json", whole, files)


@pytest.mark.slow
def test_a_chunk_of_another_sweep_does_not_count(finished, tmp_path):
    """Two sweeps with the same cells and variables, and other numbers."""
    original, whole, files = finished
    path, other = tmp_path / "run.zarr", tmp_path / "other.zarr"
    shutil.copytree(original, path)
    swept(other, steps=30)
    for name in ("residual/c.0.0", "outcome/c.0.0", "player_0/c.0.0", "commits/0.json"):
        shutil.copy(other / name, path / name)
    sweeps.equal(swept(path), whole)
    shutil.copy(other / "commits" / "sweep.json", path / "commits" / "sweep.json")
    with pytest.raises(StoreError, match="zarr.json is damaged, or somebody has changed it"):
        swept(path)


@pytest.mark.slow
def test_edited_metadata(finished, tmp_path):
    original, whole, files = finished
    path = tmp_path / "run.zarr"
    shutil.copytree(original, path)
    header = json.loads(files["zarr.json"])
    sweep = json.loads(header["attributes"]["sweep"])
    for change in (
        {"sweep": "{}"},
        {"sweep": json.dumps(sweep | {"chunks": {"axis": 0, "length": 0}})},
        {"sweep": json.dumps(sweep | {"chunks": {"axis": 7, "length": 1}})},
        {"sweep": json.dumps(sweep | {"axes": 3})},
        {"settings": "[]"},
        {"settings": 3},
        {"note": "kept by hand"},
    ):
        new = header | {"attributes": header["attributes"] | change}
        for content in (json.dumps(new), json.dumps(new["attributes"]), json.dumps([new]), "[" * 100_000):
            damaged(path, "zarr.json", content.encode())
            damaged(path, "commits/sweep.json", files["commits/sweep.json"])
            check(path, "zarr.json", whole, files)
            damaged(path, "zarr.json", content.encode())
            damaged(path, "commits/sweep.json", None)
            words = r"(?s)zarr.json .*commits/sweep.json.* missing or damaged"
            with pytest.raises((StoreError, ValueError), match=words):
                swept(path)
    damaged(path, "zarr.json", None)
    with pytest.raises(StoreError, match=r"zarr.json and commits/sweep.json are missing or damaged.*put one"):
        swept(path)
    damaged(path, "zarr.json", files["zarr.json"])  # means the same, written differently
    check(path, "zarr.json", whole, files)


def test_what_another_version_wrote(finished, tmp_path):
    original, _, files = finished
    path = tmp_path / "run.zarr"
    shutil.copytree(original, path)
    record = store.read_record(path / "commits" / "sweep.json")
    damaged(path, "commits/sweep.json", store.record_of(record | {"format": 3}))
    with pytest.raises(ValueError, match="another version of dynamics, in format 3, and this one knows format 2"):
        swept(path)
    header = json.loads(files["zarr.json"])
    sweep = json.loads(header["attributes"]["sweep"])
    del sweep["format"]
    header["attributes"]["sweep"] = json.dumps(sweep)
    damaged(path, "zarr.json", json.dumps(header).encode())
    damaged(path, "commits/sweep.json", None)
    before = contents(path)
    with pytest.raises(ValueError, match="in format 1"):
        swept(path)
    assert contents(path) == before


@pytest.mark.slow
def test_unfinished_and_damaged(finished, tmp_path):
    """What is missing is computed, whatever else has happened to the folder."""
    original, whole, files = finished
    chance = np.random.default_rng(3)
    path = tmp_path / "run.zarr"
    for _ in range(12):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(original, path)
        for name in chance.permutation([*files])[: chance.integers(2, 8)]:
            damage = chance.choice([*DAMAGES])
            damaged(path, name, DAMAGES[damage](files[name], chance) if files[name] else b"{")
        for _ in range(len(files)):
            try:
                sweeps.equal(swept(path), whole)
                break
            except StoreError as error:
                names = [name for name in files if name.endswith("zarr.json") and f" {name} " in str(error)]
                assert names, error
                fix = names[0]
                if "put one of them back" in str(error):
                    damaged(path, fix, files[fix])
                else:
                    (path / fix).unlink()
        else:
            raise AssertionError("the advice does not help")
        assert set(contents(path)) >= set(files)


CHILD = """
import sys
import jax
import numpy as np
import dynamics as dy
from dynamics.ensembles import cells, seeds
cells.LANES["cpu"], cells.FEWEST_LANES = 3, 1
jax.config.update("jax_enable_x64", True)
def build(rate, seed, weight):
    return dy.games.Quadratic([[weight]]), dy.updates.Simultaneous(dy.optimisers.sgd(rate)), (1.0,)
axes = {"rate": np.linspace(0.05, 2.05, 6), "seed": seeds(2), "weight": 0.5}
print("ready", flush=True)
sys.stdin.readline()
try:
    dy.sweep(build, axes, steps=20, predict=False, chunk=6, store=sys.argv[1])
except dy.ensembles.StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_processes_that_begin_at_once(finished, tmp_path):
    """One of them writes, and the other one says so or finds all of it."""
    path = tmp_path / "run.zarr"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes = [subprocess.Popen([sys.executable, "-c", CHILD, str(path)], **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(text == "" for text in ended) >= 1
    assert all(text == "" or "is being written by" in text or "was begun by" in text for text in ended), ended
    sweeps.equal(xr.open_zarr(path, chunks=None), finished[1])


def test_two_writers_where_the_system_knows_no_locks(tmp_path, monkeypatch):
    """At most one gets the lock, however they begin."""
    monkeypatch.setattr(store.Lock, "_hold", lambda self: None)
    monkeypatch.setattr(store, "_runs", lambda process: True)
    file, barrier, locks, refused = tmp_path / "lock", threading.Barrier(4), [], []
    names = iter("abcd")
    monkeypatch.setattr(store.os, "getpid", lambda: threading.get_ident() % 2**31)

    def one():
        barrier.wait()
        try:
            locks.append(store.Lock(file, next(names)))
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) <= 1 and len(locks) + len(refused) == 4
    assert all("is being written by" in text for text in refused)
    for lock in locks:
        lock.release()
    assert os.path.exists(file)


# Studies


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """How the store of a finished study is opened, with `resume` or without, and the bytes of its files."""
    folder, calls = tmp_path_factory.mktemp("studied"), []

    class Watched(kept.Kept):
        def __init__(self, *arguments):
            calls.append(arguments)
            super().__init__(*arguments)

    (folder / "small.toml").write_text(small_toml())
    study = studies.load(str(folder / "small.toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Kept", Watched)
        studies.execute(study, store=folder / "kept")
    ((path, study, batches, pictures, plugins, _),) = calls
    return path, lambda path, resume=True: kept.Kept(path, study, batches, pictures, plugins, resume), contents(path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.slow_cases("flipped", "cut", "emptied")
def test_every_file_of_a_study_damaged(damage, studied, tmp_path):
    original, opened_at, files = studied
    whole, drawn = opened_at(original), opened_at(original).figure(0)
    assert set(files) == {"study.json", "lock", *(f"{number}.json" for number in range(whole.total))}
    path, chance = tmp_path / "kept", np.random.default_rng(1)
    shutil.copytree(original, path)
    for name, content in files.items():
        damaged(path, name, DAMAGES[damage](content, chance) if content else b"1")
        before = contents(path)
        if name == "study.json" and damage != "deleted":
            with pytest.raises(studies.StudyError, match="study.json is damaged, or somebody has changed it"):
                opened_at(path)
            assert contents(path) == before
            (path / name).unlink()
        lost = int(name[0]) if name[0].isdigit() else None
        if lost is not None:
            with pytest.raises(studies.StudyError, match="holds unfinished work of this study"):
                opened_at(path, resume=False)
        with opened_at(path) as opened:
            assert set(range(opened.total)) - set(opened.records) == ({lost} if lost is not None else set())
            for number in opened.records:
                assert opened.records[number] == whole.records[number]
            if lost is not None:
                opened._add(lost, whole.records[lost])
        again = opened_at(path, resume=False)
        np.testing.assert_array_equal(again.figure(0).trajectories[0][1], drawn.trajectories[0][1])
        assert {key: value for key, value in contents(path).items() if key != "lock"} == {
            key: value for key, value in files.items() if key != "lock"
        }


def test_files_of_studies_exchanged(studied, tmp_path):
    original, opened_at, files = studied
    path = tmp_path / "kept"
    shutil.copytree(original, path)
    damaged(path, "0.json", files["1.json"])
    assert set(opened_at(path).records) == set(range(1, opened_at(original).total))
    record = store.read_record(path / "0.json")
    for changed in ({"run": "another"}, {"number": 7}):
        damaged(path, "0.json", store.record_of(record | {"number": 0} | changed))
        assert 0 not in opened_at(path).records
    shutil.rmtree(path)
    path.mkdir()
    damaged(path, "0.json", store.record_of(record | {"run": "another"}))
    with pytest.raises(
        studies.StudyError, match="study.json is missing, and the batches .* of another run, or damaged"
    ):
        opened_at(path)
    damaged(path, "study.json", json.dumps(store.read_record(original / "study.json")).encode())
    with pytest.raises(studies.StudyError, match="another version of dynamics, in format 1"):
        opened_at(path)
