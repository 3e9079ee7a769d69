import os
import signal
import subprocess
import sys
import time

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


def test_a_folder_without_checkpoints_has_nothing_to_resume(tmp_path):
    assert load_last(tmp_path) is None


def test_what_was_saved_comes_back(tmp_path):
    saved(tmp_path, 1, 2)
    loaded, warning = load_last(tmp_path)
    assert (loaded["step"], warning) == (2, "")
    torch.testing.assert_close(loaded["model"]["weight"], torch.full((1000,), 2.0))


def test_the_digest_beside_last_pt_is_its_sha256(tmp_path):
    saved(tmp_path, 1, 2)
    first_word = (tmp_path / "last.pt.sha256").read_text().split()[0]
    assert first_word == sha256_of(tmp_path / "last.pt")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "garbage"])
def test_a_damaged_last_pt_is_named_and_the_one_before_is_used(tmp_path, damage):
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


def test_a_damaged_checkpoint_never_becomes_the_one_before(tmp_path):
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


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="disk full: 1 MB needed for a checkpoint, "):
        saved(tmp_path, 2)
    monkeypatch.undo()
    assert load_last(tmp_path)[0]["step"] == 1


SAVE_LOOP = """
import sys, torch
from pathlib import Path
from resnet_demo.training.checkpoint import save_last
print("ready", flush=True)
for step in range(10**6):
    save_last(Path(sys.argv[1]), {"step": step, "weight": torch.full((200_000,), float(step))})
"""


def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_checkpoint(tmp_path):
    for attempt in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_LOOP, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            time.sleep(0.05 + 0.013 * attempt)
            process.send_signal(signal.SIGKILL)
        found = load_last(tmp_path)
        if found:
            loaded, warning = found
            assert warning == ""
            assert loaded["weight"].unique().tolist() == [float(loaded["step"])]
    assert found, "no save was ever finished: the test proved nothing"


def spoil(path, damage):
    content = bytearray(path.read_bytes())
    path.unlink()  # the one before may be the same file under another name
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(
        {"flip": content, "truncate": content[:-100], "empty": b"", "garbage": b"x" * 5000}[damage]
    )
