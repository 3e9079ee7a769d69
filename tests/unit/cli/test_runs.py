"""`runs`: list, show, title, notes, delete, pack."""

import os
import shutil

from resnet_demo.file_locks import try_lock
from resnet_demo.runs.groups import Membership, write_membership
from resnet_demo.tasks.status import Status, status_json
from tests.unit.cli.conftest import CommandLine


def test_runs_are_listed_and_shown(trained):
    demo, _ = trained
    row = demo("runs", "list", "--json").objects[0]
    assert (row["run"], row["state"], row["epoch"], row["epochs"]) == ("mine", "finished", 2, 2)
    assert demo("runs", "list").out.startswith("mine: finished, resnet20 on colours, 2 of 2 epochs")
    (shown,) = demo("runs", "show", "mine", "--json").objects
    assert (shown["run"], shown["state"]) == ("mine", "finished")
    assert [epoch["epoch"] for epoch in shown["history"]] == [1, 2]
    assert shown["progress"]["step"] == shown["progress"]["total_steps"] == 18
    assert shown["config"]["seed"] == 7
    assert demo("runs", "show", "mine").out.count("\n") == 3


def test_runs_are_compared_as_a_table_and_as_one_object(trained):
    demo, _ = trained
    ids = ["mine", "learn-plain20", "learn-vgg-vgg16"]
    (compared,) = demo("runs", "compare", *ids, "--json").objects
    assert compared["runs"] == ids
    assert compared["differs"]["model"] == ["resnet20", "plain20", "vgg16"]
    assert len(compared["curves"]["val_top1"][0]) == 2
    table = demo("runs", "compare", "mine", "learn-plain20").out
    assert table.split("\n")[0].split() == ["mine", "learn-plain20"]
    for mistake in (
        ["compare", "mine"],
        ["compare", "mine", "no-such"],
        ["show", "mine", "a", "b"],
    ):
        answer = demo("runs", *mistake)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)


def test_experiments_and_recordings_of_lessons_are_listed_with_all_only(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    shutil.copytree(demo.runs / "mine", demo.runs / "duel-1-1-plain8")
    member = Membership(group="duel-1", kind="duel", arm="plain8")
    write_membership(demo.runs / "duel-1-1-plain8", member)
    usual = [row["run"] for row in demo("runs", "list", "--json").objects]
    assert usual == ["mine", "cifar10-shipped"]
    everything = [row["run"] for row in demo("runs", "list", "--all", "--json").objects]
    assert {*usual, "duel-1-1-plain8", "learn-plain56"} <= {*everything}
    answer = demo("runs", "show", "mine", "--all")
    assert (answer.code, answer.err.count("\n")) == (2, 1)


def test_a_damaged_run_is_listed_as_damaged(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    (demo.runs / "mine" / "status.json").write_text("{")
    answer = demo("runs", "list")
    assert answer.code == 0
    assert answer.out.startswith("mine: status.json of mine is damaged\n")
    answer = demo("runs", "show", "mine")
    assert (answer.code, answer.err.count("\n")) == (1, 1)


def test_a_run_gets_a_title_and_notes(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    answer = demo("runs", "title", "mine", "Red, green and blue", "--json")
    assert answer.objects == [{"run": "mine", "title": "Red, green and blue", "notes": ""}]
    assert demo("runs", "notes", "mine", "two epochs").out == "two epochs\n"
    assert demo("runs", "title", "mine").out == "Red, green and blue\n"
    assert demo("runs", "list").out.startswith("mine (Red, green and blue): finished, ")
    assert demo("runs", "list", "--json").objects[0]["title"] == "Red, green and blue"
    (shown,) = demo("runs", "show", "mine", "--json").objects
    assert (shown["title"], shown["notes"]) == ("Red, green and blue", "two epochs")
    assert demo("runs", "title", "mine", "").code == 0
    assert demo("runs", "list").out.startswith("mine: finished, ")
    refused = demo("runs", "title", "mine", "x" * 81)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "title must be one line of at most 80 characters, got " in refused.err
    assert demo("runs", "show", "mine", "text").code == 2


def test_a_deleted_run_is_not_listed(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    answer = demo("runs", "delete", "mine", "--json")
    assert (answer.code, answer.objects) == (0, [{"run": "mine", "deleted": True}])
    assert "mine" not in [row["run"] for row in demo("runs", "list", "--json").objects]
    assert demo("runs", "delete", "mine").code == 2


def test_a_run_deleted_by_its_path_leaves_its_namesake(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    other = shutil.copytree(demo.runs / "mine", tmp_path / "elsewhere" / "mine")
    assert demo("runs", "delete", other).code == 0
    assert not other.exists()
    assert (demo.runs / "mine" / "config.json").exists()


def test_a_live_run_is_not_deleted(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    (demo.runs / "mine" / "status.json").write_bytes(status_json(Status(state="running")))
    lock = try_lock(demo.runs / "mine" / "worker.lock")
    answer = demo("runs", "delete", "mine")
    os.close(lock)
    assert answer.code == 2
    assert "run mine is running: stop it before you delete it" in answer.err


def test_a_packed_run_is_evaluated_without_its_images(trained, picture, tmp_path):
    demo, folder = trained[0], tmp_path / "cifar10-shipped"
    (packed,) = demo("runs", "pack", "mine", folder, "--json").objects
    assert (packed["run"], packed["folder"]) == ("cifar10-shipped", str(folder))
    elsewhere = CommandLine(tmp_path / "runs", tmp_path / "data")
    answer = elsewhere("evaluate", folder, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert (answer.objects[0]["stored"], answer.objects[0]["top1"]) == (True, packed["top1"])
    assert "the images are not on this machine" in elsewhere("evaluate", folder).out
    assert "the images are not" not in demo("evaluate", folder).out
    assert elsewhere("classify", folder, picture("a.png", "red")).code == 0
    assert elsewhere("evaluate", folder, "--split", "val").code == 2
    flipped = elsewhere("evaluate", folder, "--mode", "flip")
    assert (flipped.code, flipped.out, flipped.err.count("\n")) == (2, "", 1)
    assert "--mode: mode must be plain while the images of colours are not on this" in flipped.err
    damaged = elsewhere("evaluate", folder, "--robustness")
    assert (damaged.code, damaged.out, damaged.err.count("\n")) == (2, "", 1)
    assert "--robustness: the images of colours are not on this machine; " in damaged.err
    similar = elsewhere("classify", folder, picture("a.png", "red"), "--similar")
    assert (similar.code, similar.out, similar.err.count("\n")) == (2, "", 1)
    assert "--similar: the images of colours are not on this machine; " in similar.err
    again = demo("runs", "pack", "mine", folder)
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    text = demo("runs", "pack", "mine", tmp_path / "other").out
    assert text.startswith(f"other: top-1 {round(30 * packed['top1'])} of 30 on 30 test images, ")
