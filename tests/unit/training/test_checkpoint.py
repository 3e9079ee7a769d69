"""Saving and loading `last.pt`, with damaged files, full disks and kills."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch

from resnet_demo.errors import DamagedError, DiskFullError
from resnet_demo.files import sha256_of
from resnet_demo.training.checkpoint import load_last, save_last


def state(number):
    return {"step": number, "model": {"weight": torch.full((1000,), float(number))}}


def saved(folder, *numbers):
    for number in numbers:
        save_last(folder, state(number))


def test_a_folder_without_checkpoints_loads_nothing(tmp_path):
    assert load_last(tmp_path) is None


def test_the_last_saved_state_is_loaded(tmp_path):
    saved(tmp_path, 1, 2)
    loaded, warning = load_last(tmp_path)
    assert (loaded["step"], warning) == (2, "")
    torch.testing.assert_close(loaded["model"]["weight"], torch.full((1000,), 2.0))


def test_the_digest_beside_last_pt_is_its_sha256(tmp_path):
    saved(tmp_path, 1, 2)
    first_word = (tmp_path / "last.pt.sha256").read_text().split()[0]
    assert first_word == sha256_of(tmp_path / "last.pt")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "garbage"])
def test_a_damaged_last_pt_is_named_and_the_previous_one_is_used(tmp_path, damage):
    saved(tmp_path, 1, 2)
    spoil(tmp_path / "last.pt", damage)
    loaded, warning = load_last(tmp_path)
    assert loaded["step"] == 1
    assert "last.pt" in warning


def test_two_damaged_checkpoints_are_refused(tmp_path):
    saved(tmp_path, 1, 2)
    spoil(tmp_path / "last.pt", "flip")
    spoil(tmp_path / "last.before.pt", "flip")
    with pytest.raises(DamagedError, match=r"last\.pt"):
        load_last(tmp_path)


def test_a_damaged_checkpoint_never_becomes_the_previous_one(tmp_path):
    saved(tmp_path, 1, 2)
    spoil(tmp_path / "last.pt", "flip")
    saved(tmp_path, 3)
    spoil(tmp_path / "last.pt", "flip")
    assert load_last(tmp_path)[0]["step"] == 1


def test_a_checkpoint_that_can_run_code_is_not_loaded(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"step": Harm()}, tmp_path / "last.pt")
    digest = sha256_of(tmp_path / "last.pt")
    (tmp_path / "last.pt.sha256").write_text(f"{digest}  last.pt\n")
    with pytest.raises(DamagedError):
        load_last(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="disk full: 1 MB needed for a checkpoint, "):
        saved(tmp_path, 2)
    monkeypatch.undo()
    assert load_last(tmp_path)[0]["step"] == 1


# Each line asks for a process that saves until it is killed. They are forks: torch is loaded once.
SAVE_LOOPS = """
import os, sys, torch
from pathlib import Path
from resnet_demo.training.checkpoint import load_last, save_last
folder = Path(sys.argv[1])
for _ in sys.stdin:
    if child := os.fork():
        os.waitpid(child, 0)
        print("killed", flush=True)
        continue
    found = load_last(folder)
    first = found[0]["step"] + 1 if found else 0
    print(os.getpid(), flush=True)
    for step in range(first, 10**6):
        save_last(folder, {"step": step, "weight": torch.full((200_000,), float(step))})
        print(step, flush=True)
"""


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.soak)])
def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_checkpoint(tmp_path, kills):
    command = [sys.executable, "-c", SAVE_LOOPS, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as saver:
        kill_often(tmp_path, saver, kills)


def kill_often(tmp_path, saver, kills):
    rng, last, torn = random.Random(kills), -1, 0
    for _ in range(kills):
        print(file=saver.stdin, flush=True)
        pid = int(saver.stdout.readline())
        time.sleep(rng.uniform(0.02, 0.3))
        os.kill(pid, signal.SIGKILL)
        printed = [*iter(saver.stdout.readline, "killed\n")]
        last = max([last, *map(int, printed)])
        torn += any(tmp_path.glob(".*"))  # the temporary file of the interrupted save
        found = load_last(tmp_path)
        if found is None:
            assert last == -1  # no save was reported
            continue
        state, warning = found
        assert warning == ""
        assert state["weight"].unique().tolist() == [float(state["step"])]
        assert last <= state["step"] <= last + 1  # a reported save is complete
        last = state["step"]
    assert last > 0, "no save was finished: the test proves nothing"
    assert torn, "no save was interrupted: the test proves nothing"
    saved(tmp_path, last + 1)
    assert not (tmp_path / ".last.pt.new").exists(), "a later save clears what a kill left"


@pytest.fixture
def calls(monkeypatch):
    """Record fsync, replace and link from now on, in order: (call, file name, …)."""
    made, real = [], {name: getattr(os, name) for name in ("fsync", "replace", "link")}

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        size = os.fstat(descriptor).st_size
        made.append(("fsync", os.path.basename(path), os.path.isdir(path) or size))
        real["fsync"](descriptor)

    def moves(what):
        def call(source, target):
            made.append((what, os.path.basename(source), os.path.basename(target)))
            real[what](source, target)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    for what in ("replace", "link"):
        monkeypatch.setattr(os, what, moves(what))
    return made


def test_content_is_synced_before_its_rename_and_the_folder_after_it(tmp_path, calls):
    saved(tmp_path, 1)
    before = len(calls)
    saved(tmp_path, 2)
    second, folder = calls[before:], tmp_path.name
    size = (tmp_path / "last.pt").stat().st_size
    assert second[0] == ("fsync", ".last.pt.new", size)  # whole, before anything else is touched
    assert second[-2:] == [("replace", ".last.pt.new", "last.pt"), ("fsync", folder, True)]
    moved = [call for call in second if call[0] == "replace"]
    assert [target for _, _, target in moved] == [
        *("last.before.pt.sha256", "last.before.pt", "last.pt.sha256", "last.pt")
    ]
    for what, source, _ in moved:
        at = second.index((what, source, _))
        synced = [name for call, name, *_ in second[:at] if call == "fsync"]
        linked = [target for call, _, target in second[:at] if call == "link"]
        assert source in synced or source in linked  # a link has the content of last.pt, synced
        assert second[at + 1] == ("fsync", folder, True)


@pytest.mark.parametrize("number", range(1, 20))
def test_a_save_that_ends_after_any_call_leaves_a_whole_checkpoint(tmp_path, number, monkeypatch):
    """Stop the save at each of its steps in turn."""
    saved(tmp_path, 1, 2)
    made = []

    def counted(real):
        def call(*args):
            made.append(args)
            if len(made) == number:
                raise KeyboardInterrupt
            return real(*args)

        return call

    for name in ("fsync", "replace", "link"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    with suppress(KeyboardInterrupt):
        saved(tmp_path, 3)
    monkeypatch.undo()
    state, warning = load_last(tmp_path)
    assert (state["step"] in (2, 3), warning) == (True, "")
    saved(tmp_path, 4)
    assert load_last(tmp_path)[0]["step"] == 4


def spoil(path, damage):
    content = bytearray(path.read_bytes())
    path.unlink()  # the one before may be the same file under another name
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(
        {"flip": content, "truncate": content[:-100], "empty": b"", "garbage": b"x" * 5000}[damage]
    )


def test_on_a_disk_without_links_the_previous_checkpoint_is_kept_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    saved(tmp_path, 1, 2, 3)
    assert load_last(tmp_path)[0]["step"] == 3
    spoil(tmp_path / "last.pt", "garbage")
    assert load_last(tmp_path)[0]["step"] == 2
