"""Machine code kept on disk: what is read is what was written, by nobody else, and whole."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dynamics.compiler import disk_cache, fallback
from dynamics.compiler.llvm import jit, processor
from dynamics.compiler.llvm.lowering import compile_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="nothing is kept elsewhere")

NAME = disk_cache.name_of("a", "test")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    folder = tmp_path / "one/cache"
    monkeypatch.setenv(disk_cache.VARIABLE, str(folder))
    return folder


def test_what_is_written_is_read(folder):
    assert disk_cache.read(NAME) is None and not folder.exists()
    content = bytes(range(256)) * 3
    disk_cache.write(NAME, content)
    assert disk_cache.read(NAME) == content
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    disk_cache.write(NAME, b"another")
    assert disk_cache.read(NAME) == b"another" and len([*folder.iterdir()]) == 1


def test_names_differ_with_every_part():
    parts = [("a", "b"), ("ab",), ("a", "b", ""), ("", "ab"), ("b", "a"), ("a,", "b"), ("1:a1:b",)]
    assert len({disk_cache.name_of(*one) for one in parts}) == len(parts)


def test_a_broken_file_is_deleted(folder):
    for damage in (lambda b: b[:-1], lambda b: b[: disk_cache.DIGEST], lambda b: b"", lambda b: b[:40] + b"x" + b[41:]):
        disk_cache.write(NAME, b"some object code" * 9)
        (file,) = folder.iterdir()
        file.write_bytes(damage(file.read_bytes()))
        assert disk_cache.read(NAME) is None and not file.exists()


def opened_to_group(folder):
    folder.chmod(0o770)


def opened_to_all(folder):
    folder.chmod(0o755)


def a_link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def a_file(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("")


def parent_of_all(folder):
    folder.parent.chmod(0o777)


def file_for_all(folder):
    next(folder.iterdir()).chmod(0o644)


def file_that_is_a_link(folder):
    (file,) = folder.iterdir()
    file.rename(folder.with_name("elsewhere"))
    file.symlink_to(folder.with_name("elsewhere"))


def file_that_is_a_folder(folder):
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir(mode=0o700)


OPEN = [opened_to_group, opened_to_all, a_link, a_file, parent_of_all]
OPEN_FILES = [file_for_all, file_that_is_a_link, file_that_is_a_folder]


@pytest.mark.parametrize("change", OPEN + OPEN_FILES)
def test_nothing_is_read_where_others_may_write(change, folder):
    disk_cache.write(NAME, b"object code")
    change(folder)
    assert disk_cache.read(NAME) is None
    if change in OPEN:
        before = sorted(folder.parent.rglob("*"))
        disk_cache.write(disk_cache.name_of("more"), b"object code")
        assert sorted(folder.parent.rglob("*")) == before
        with pytest.raises((disk_cache.Untrusted, OSError)):
            disk_cache.private_folder(folder)


def test_nothing_is_read_of_another_user(folder, monkeypatch):
    disk_cache.write(NAME, b"object code")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert disk_cache.read(NAME) is None
    with pytest.raises(disk_cache.Untrusted, match="others than the user|belongs to user"):
        disk_cache.private_folder(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_or_a_folder_of_somebody_else(folder):
    disk_cache.write(NAME, b"object code")
    (file,) = folder.iterdir()
    os.chown(file, 12345, -1)
    assert disk_cache.read(NAME) is None
    os.chown(file, 0, -1)
    assert disk_cache.read(NAME) == b"object code"
    os.chown(folder, 12345, -1)
    assert disk_cache.read(NAME) is None
    with pytest.raises(disk_cache.Untrusted, match="belongs to user 12345, not to 0"):
        disk_cache.private_folder(folder)


def test_the_umask_does_not_matter(folder):
    before = os.umask(0)
    try:
        disk_cache.write(NAME, b"object code")
    finally:
        os.umask(before)
    assert disk_cache.read(NAME) == b"object code"


def test_where_nothing_can_be_written(folder, monkeypatch):
    folder.parent.mkdir()
    disk_cache.write(NAME, b"object code")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    disk_cache.write(disk_cache.name_of("more"), b"object code")
    assert [file.name for file in folder.iterdir()] == [NAME + disk_cache.SUFFIX]


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    wanted = {"off": None, "~/x": tmp_path / "x", "/x/y": pathlib.Path("/x/y")}
    for value, path in wanted.items():
        monkeypatch.setenv(disk_cache.VARIABLE, value)
        assert disk_cache.wanted() == path
    for value in ("", "on", "some/folder"):
        monkeypatch.setenv(disk_cache.VARIABLE, value)
        with pytest.raises(ValueError, match='DYNAMICS_CACHE is .*; expected an absolute path, or "off"'):
            fallback.is_wanted()
    monkeypatch.delenv(disk_cache.VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert disk_cache.wanted() == tmp_path / ".cache/dynamics"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert disk_cache.wanted() == pathlib.Path("/caches/dynamics")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disk_cache.wanted() == tmp_path / "Library/Caches/dynamics"
    monkeypatch.setattr(os, "name", "nt")
    assert disk_cache.wanted() is None


def test_what_was_not_used_for_longest_goes_first(folder, monkeypatch):
    monkeypatch.setattr(disk_cache, "MOST_BYTES", 100_000)
    names = [disk_cache.name_of(str(number)) for number in range(30)]
    now = time.time()
    for age, name in enumerate(names):
        disk_cache.write(name, bytes(3_000))
        os.utime(folder / (name + disk_cache.SUFFIX), (now - 1000 + age, now - 1000 + age))
    (folder / "something").mkdir()
    (folder / f"of-a-dead-process{disk_cache.PARTIAL}").write_bytes(b"")
    os.utime(folder / f"of-a-dead-process{disk_cache.PARTIAL}", (0, 0))
    (folder / f"of-a-living-process{disk_cache.PARTIAL}").write_bytes(b"")
    assert disk_cache.read(names[0]) is not None  # used again
    for number in range(4):
        disk_cache.write(disk_cache.name_of("more", str(number)), bytes(3_000))
    left = [disk_cache.read(name) is not None for name in names]
    assert left[0] and not any(left[1:8]) and all(left[10:])
    rest = {file.name for file in folder.iterdir()}
    assert "something" in rest and f"of-a-living-process{disk_cache.PARTIAL}" in rest
    assert f"of-a-dead-process{disk_cache.PARTIAL}" not in rest
    monkeypatch.setattr(disk_cache, "MOST_FILES", 10)
    disk_cache.write(NAME, b"the last")
    assert len([*folder.glob(f"*{disk_cache.SUFFIX}")]) <= 8 and disk_cache.read(NAME) == b"the last"


@pytest.mark.slow
def test_many_write_at_once(folder, monkeypatch):
    """Every reader gets one of the contents as a whole."""
    monkeypatch.setattr(disk_cache, "MOST_BYTES", 10**6)
    contents = [bytes([number]) * 20_000 for number in range(8)]

    def work(number):
        wrong = 0
        for turn in range(40):
            name = disk_cache.name_of(str((number + turn) % 5))
            disk_cache.write(name, contents[number])
            wrong += disk_cache.read(name) not in (None, *contents)
        return wrong

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert not sum(pool.map(work, range(8)))
    assert not [*folder.glob(f"*{disk_cache.PARTIAL}")]


# Object code


def program(number):
    def function(x):
        return jax.lax.fori_loop(0, 5, lambda _, x: x - number * jax.numpy.sin(x), x)

    return jax.make_jaxpr(function)(X)


X = np.linspace(-1, 1, 24)


def test_object_code_is_compiled_once_for_all_processes(folder, monkeypatch):
    jax.devices()  # before, XLA does not ask for the version of functions that are registered
    texts, registered = [], jit._registered
    monkeypatch.setattr(jit, "_registered", lambda text, *rest: texts.append(text) or registered(text, *rest))
    for number in (0.25, 0.5):
        compile_program(program(number), len(X))
    assert len(set(texts)) == len([*folder.iterdir()]) == 2
    text, host = texts[0], processor.host()
    code, needed = jit._object_code(text, host)
    assert needed == ("sin",)

    def compiles(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(processor, "object_code", compiles)
    assert jit._object_code(text, host) == (code, needed)
    changed = [host._replace(**{name: getattr(host, name) + "x"}) for name in ("triple", "name", "features")]
    for arguments in ((text + "\n", host), (text, host, False), *((text, other) for other in changed)):
        with pytest.raises(AssertionError, match="compiled again"):
            jit._object_code(*arguments)
    for place, name, value in (
        (processor, "OPTIMISATION", 2),
        (processor.llvmlite, "__version__", "0.1"),
        (processor.llvm, "llvm_version_info", (1, 2, 3)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            processor.translator.cache_clear()
            with pytest.raises(AssertionError, match="compiled again"):
                jit._object_code(text, host)
    processor.translator.cache_clear()
    assert jit._object_code(text, host) == (code, needed)


SECOND = """
import json, sys
import numpy as np
import dynamics as dy
from dynamics.compiler.llvm import processor
compiled = []
object_code = processor.object_code
processor.object_code = lambda *given: compiled.append(1) or object_code(*given)
def build(rate, weight):
    sgd = dy.optimisers.sgd(rate)
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
swept = dy.sweep(build, {"rate": np.linspace(0.1, 0.5, 30), "weight": 0.3}, steps=20, predict=False)
print(json.dumps([len(compiled), swept.player_0.values.tolist()]))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(folder):
    """Nor does one in which sets of texts have another order."""

    def process(seed):
        environment = os.environ | {"PYTHONHASHSEED": seed, "XLA_FLAGS": ""}
        command = [sys.executable, "-W", "error", "-c", SECOND]
        return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    first, second = process("1"), process("2")
    assert first[0] >= 4 and second[0] == 0 and first[1] == second[1]


def test_the_hash_is_that_of_the_content(folder):
    disk_cache.write(NAME, b"object code")
    (file,) = folder.iterdir()
    assert file.read_bytes() == hashlib.sha256(b"object code").digest() + b"object code"
