"""The event log."""

import subprocess
import sys

import pytest

from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Step, to_line
from resnet_demo.runs.log import EventLog


@pytest.fixture
def log(tmp_path):
    return EventLog(tmp_path / "events.jsonl")


def step(number):
    return Step(step=number, epoch=1, time=1.0, loss=2.0, top1=0.1, lr=0.1, images_per_s=9.0)


def test_a_missing_log_is_empty(log):
    assert log.read() == ([], 0)
    assert list(log) == []
    log.remove_torn_line()  # does not create it
    assert not log.path.exists()


def test_events_are_read_in_order(log):
    for number in range(5):
        log.append(step(number))
    assert list(log) == [step(number) for number in range(5)]


def test_an_appended_event_is_readable_at_once(log):
    log.append(step(1))
    code = "import sys; print(sum(1 for _ in open(sys.argv[1])))"
    assert subprocess.check_output([sys.executable, "-c", code, log.path], text=True) == "1\n"


def test_reading_continues_at_the_offset(log):
    log.append(step(1))
    first, offset = log.read()
    assert log.read(offset) == ([], offset)
    log.append(step(2))
    log.append(step(3))
    assert first == [step(1)]
    assert log.read(offset) == ([step(2), step(3)], log.path.stat().st_size)


def test_a_torn_last_line_is_read_once_it_is_complete(log):
    log.append(step(1))
    line = to_line(step(2)).encode()
    for end in (1, len(line) // 2, len(line) - 1):
        with open(log.path, "ab") as file:
            file.write(line[:end])
        events, offset = log.read()
        assert events == [step(1)]
        with open(log.path, "ab") as file:
            file.write(line[end:])
        assert log.read(offset)[0] == [step(2)]
        log.path.write_bytes(to_line(step(1)).encode())


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"event": "st', b"\xff\0\xfe", b"x" * 5000])
def test_only_the_torn_line_is_removed(log, kept, torn):
    whole = "".join(to_line(step(number)) for number in range(kept)).encode()
    log.path.write_bytes(whole + torn)
    log.remove_torn_line()
    assert log.path.read_bytes() == whole
    log.append(step(9))
    assert list(log) == [*(step(number) for number in range(kept)), step(9)]


def test_an_event_after_a_torn_line_is_lost(log):
    log.path.write_bytes(to_line(step(1)).encode() + b'{"event": "st')
    log.append(step(2))
    assert list(log) == [step(1)]


def test_an_endless_line_is_named_and_a_long_one_is_read(log, monkeypatch):
    monkeypatch.setattr("resnet_demo.runs.log.CHUNK", 50)
    monkeypatch.setattr("resnet_demo.runs.log.MAX_LINE_BYTES", 500)
    log.path.write_text(" " * 300 + to_line(step(1)))
    assert list(log) == [step(1)]
    log.path.write_bytes(bytes(600))
    with pytest.raises(DamagedError, match=r"^events.jsonl of .* is damaged$"):
        list(log)


def test_undecodable_and_unknown_lines_are_skipped(log):
    log.append(step(1))
    with open(log.path, "ab") as file:
        file.write(b'\xff\xfe\n\n{"event": "snapshot", "step": 1, "epoch": 1}\nnonsense\n')
    log.append(step(2))
    assert list(log) == [step(1), step(2)]


def test_an_epoch_is_flushed_to_disk_and_a_step_is_not(log, monkeypatch):
    synced = []
    monkeypatch.setattr("resnet_demo.runs.log.os.fsync", synced.append)
    log.append(step(1))
    assert not synced
    zero = dict.fromkeys(("train_loss", "train_top1", "val_loss", "val_top1", "lr"), 0.0)
    log.append(Epoch(step=1, epoch=1, seconds=1.0, images_per_s=1.0, **zero))
    assert len(synced) == 1
