from itertools import pairwise

from resnet_demo.events import Probe, Probing, Resumed, to_line
from resnet_demo.learn.probe_log import MOST, Probed
from resnet_demo.runs.log import EventLog

RESUMED = {
    "device": "cpu", "precision": "float32", "threads": 1, "parameters": 1, "macs": 1,
    "steps_per_epoch": 4, "epochs": 3, "version": "0",
}  # fmt: skip


def probe(step, value=1.0):
    return Probe(step=step, epoch=1, gradients=[value, 2.0], activations=[3.0, None])


def log_of(tmp_path, *events):
    log = EventLog(tmp_path / "events.jsonl")
    for event in events:
        log.append(event)
    return log


def test_layers_and_looks_are_read_on_from_where_they_ended(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]), probe(1))
    probed = Probed(log)
    assert probed.refresh()
    assert (probed.layers, [one.step for one in probed.probes]) == (["a", "b"], [1])
    assert not probed.refresh()
    log.append(probe(2))
    assert probed.refresh()
    assert [one.step for one in probed.probes] == [1, 2]


def test_a_resumed_run_repeats_what_came_after_its_checkpoint(tmp_path):
    names = Probing(step=0, epoch=1, layers=["a", "b"])
    back = Resumed(step=2, epoch=1, **RESUMED)
    log = log_of(tmp_path, names, probe(1), probe(2), probe(3, 7.0), back, names, probe(3, 9.0))
    probed = Probed(log)
    probed.refresh()
    assert [(one.step, one.gradients[0]) for one in probed.probes] == [(1, 1), (2, 1), (3, 9.0)]


def test_a_long_run_is_thinned_out_evenly(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]))
    with open(log.path, "a") as file:
        file.writelines(to_line(probe(step)) for step in range(5 * MOST))
    probed = Probed(log)
    probed.refresh()
    steps = [one.step for one in probed.probes]
    assert MOST / 2 <= len(steps) <= MOST
    assert len({b - a for a, b in pairwise(steps)}) == 1


def test_a_look_of_other_layers_is_passed_over(tmp_path):
    log = log_of(tmp_path, probe(1), Probing(step=0, epoch=1, layers=["a"]), probe(2))
    probed = Probed(log)
    probed.refresh()
    assert probed.probes == []


def test_a_line_that_was_spoilt_is_passed_over(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]), probe(1))
    line = log.path.read_text().splitlines()[1]
    for wrong in ("NaN", '"7"', "1e999", "true", "[]"):
        with open(log.path, "a") as file:
            file.write(line.replace("[1.0, 2.0]", f"[{wrong}, 2.0]") + "\n")
    probed = Probed(log)
    probed.refresh()
    assert [one.step for one in probed.probes] == [1]
