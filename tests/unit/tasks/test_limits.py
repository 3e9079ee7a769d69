"""Limits of a public app: read from the environment, and enforced with a message."""

import os
import time
from dataclasses import fields

import pytest

from resnet_demo.config import to_json
from resnet_demo.errors import ConfigError
from resnet_demo.learn import lessons
from resnet_demo.runs.store import Run
from resnet_demo.tasks.estimate import SPEED_VARIABLES
from resnet_demo.tasks.launcher import Launcher, worker_environment
from resnet_demo.tasks.limits import (
    MAX_NAMES,
    Allowance,
    Caller,
    LimitError,
    Limits,
    Throttle,
    limit_variable,
)
from resnet_demo.tasks.run_groups import RunGroups
from resnet_demo.tasks.status import Status, read_status, status_json
from resnet_demo.tasks.worker import time_limit, train

VISITOR, OTHER = Caller("203.0.113.1", is_owner=False), Caller("203.0.113.2", is_owner=False)


@pytest.fixture
def limited(launcher, monkeypatch):
    """Return a function: a launcher with limits, whose workers never start.

    Its tasks are live, because their locks are held until the test ends.
    """
    locks = []
    monkeypatch.setattr(Launcher, "spawn", lambda self, verb, folder, lock: locks.append(lock))

    def over(**limits):
        launcher.allowance = Allowance(Limits(**limits))
        return launcher

    yield over
    for lock in locks:
        os.close(lock)


def test_a_persons_own_app_has_no_limits():
    assert Limits.from_environment({"RESNET_DEMO_MAX_EPOCHS": "3"}) is None


def test_each_limit_is_read_from_its_variable():
    variables = {
        limit_variable(field.name): str(value)
        for value, field in enumerate(fields(Limits), start=7)
    }
    limits = Limits.from_environment({"RESNET_DEMO_PUBLIC": "1", **variables})
    values = [getattr(limits, field.name) for field in fields(Limits)]
    assert values == [*range(7, 7 + len(variables))]
    blank = dict.fromkeys(variables, " ")
    assert Limits.from_environment({"RESNET_DEMO_PUBLIC": "1", **blank}) == Limits()


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "many", "1e3", "٣"])
def test_an_invalid_limit_is_refused(text):
    with pytest.raises(ConfigError, match="RESNET_DEMO_MAX_QUEUE must be a whole number of at"):
        Limits.from_environment({"RESNET_DEMO_PUBLIC": "1", "RESNET_DEMO_MAX_QUEUE": text})


def test_too_many_epochs_and_too_large_a_network_are_refused(limited, owner, tiny):
    launcher = limited(epochs=3, parameters=300_000)
    with pytest.raises(LimitError, match=r"^epochs must be at most 3 here, got 4$"):
        launcher.start(tiny(epochs=4), owner)
    message = "^model must have at most 300,000 parameters here, and resnet56 has 85[0-9],[0-9]*$"
    with pytest.raises(LimitError, match=message):
        launcher.start(tiny(model="resnet56"), owner)
    assert launcher.runs.list() == []
    launcher.start(tiny(epochs=3), owner)


def test_a_full_queue_refuses_a_run_and_a_group_counts_all_its_runs(limited, owner, tiny):
    launcher = limited(queue=2)
    knobs = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2}
    with pytest.raises(LimitError, match=r"at most 2 runs .* got 4"):
        RunGroups(launcher).start("duel", lessons.duel_arms([8, 14], 1, knobs), owner)
    assert launcher.runs.list() == []
    launcher.start(tiny(), owner)
    launcher.start(tiny(), owner)
    with pytest.raises(LimitError, match="at most 2 runs may train or wait here at once, got 3"):
        launcher.start(tiny(), owner)


def test_runs_are_counted_by_person_and_day_and_a_resume_counts_too(limited, owner, tiny):
    launcher = limited(runs=2, queue=9)
    now = [0.0]
    launcher.allowance.runs.clock = lambda: now[0]
    launcher.start(tiny(), owner)
    with pytest.raises(ConfigError, match="dataset"):
        launcher.start(tiny(dataset="none"), owner)  # not started, so not counted
    stopped = launcher.paths.runs / "stopped-1"
    stopped.mkdir()
    (stopped / "config.json").write_text(to_json(tiny(), "0"))
    (stopped / "status.json").write_bytes(status_json(Status(state="stopped")))
    launcher.resume("stopped-1", owner)
    message = "^at most 2 runs may be started by one person in 24 hours$"
    with pytest.raises(LimitError, match=message):
        launcher.start(tiny(), owner)
    launcher.start(tiny(), Caller("another owner"))
    now[0] = 24 * 3600.0
    launcher.start(tiny(), owner)


def test_evaluations_of_visitors_are_limited_at_once_and_by_day_and_existing_ones_are_free(
    limited, owner, tmp_path
):
    launcher = limited(tasks=2, evaluations=3)

    def once(name, caller):
        return launcher.start_once("evaluate", tmp_path / name, {}, caller, lambda folder: False)

    once("a", VISITOR), once("b", OTHER)
    once("a", OTHER)  # already live
    with pytest.raises(LimitError, match="at most 2 evaluations may run here at once"):
        once("c", OTHER)
    assert not (tmp_path / "c").exists()
    once("c", owner)  # no visitor
    for name in "ab":
        (tmp_path / name / "status.json").write_bytes(status_json(Status(state="finished")))
    once("d", VISITOR)
    (tmp_path / "d" / "status.json").write_bytes(status_json(Status(state="failed")))
    once("e", VISITOR)
    with pytest.raises(LimitError, match="at most 3 evaluations may be started in 24 hours"):
        once("f", VISITOR)
    once("a", VISITOR)  # finished
    once("f", OTHER)


def test_work_that_cannot_be_made_smaller_costs_at_most_the_whole_limit():
    allowance = Allowance(Limits(pictures=3))
    allowance.count_pictures(VISITOR, 12, capped=True)
    with pytest.raises(LimitError, match=r"try again in \d+ s$"):
        allowance.count_pictures(VISITOR, 12, capped=True)
    allowance.count_pictures(OTHER, 2, capped=True)
    allowance.count_pictures(OTHER)


def test_pictures_are_counted_by_visitor_and_minute(owner):
    allowance, now = Allowance(Limits(pictures=3)), [0.0]
    allowance.pictures.clock = lambda: now[0]
    allowance.count_pictures(VISITOR), allowance.count_pictures(VISITOR)
    with pytest.raises(LimitError, match=r"^at most 3 pictures a minute .*: try again in 61 s$"):
        allowance.count_pictures(VISITOR, 2)
    with pytest.raises(LimitError, match=r"^at most 3 pictures a minute may be classified here$"):
        allowance.count_pictures(OTHER, 4)
    allowance.count_pictures(OTHER, 3)
    for _ in range(50):
        allowance.count_pictures(owner)
    now[0] = 60.0
    allowance.count_pictures(VISITOR, 3)


def test_a_throttle_remembers_a_limited_number_of_names():
    throttle = Throttle(2, 10.0)
    for number in range(MAX_NAMES + 50):
        throttle.record(f"visitor {number}", 5)
    assert len(throttle.times) == MAX_NAMES
    assert {len(past) for past in throttle.times.values()} == {2}


def test_a_run_is_stopped_at_the_time_limit_with_a_message(launcher, tiny):
    run, lock = launcher.make(tiny(epochs=1000))
    last = train(run, launcher.paths, limit_s=0.5)
    os.close(lock)
    assert last.kind == "stopped"
    status = read_status(run.path)
    assert status.state == "stopped"
    assert status.message == ("stopped at the time limit of 0 minutes; Resume continues")
    assert (run.path / "last.pt").exists()


def test_a_task_that_ends_within_the_time_limit_is_unchanged(tmp_path):
    with time_limit(tmp_path, 0.2):
        pass
    time.sleep(0.4)
    assert [*tmp_path.iterdir()] == []


SECRETS = {
    "RESNET_DEMO_ADMIN_TOKEN": "correct horse battery staple",
    "HF_TOKEN": "hf_" + "aB3" * 11,
    "OAUTH_CLIENT_SECRET": "of the client",
    "DB_PASSWORD": "letmein",
    "AWS_SECRET_ACCESS_KEY": "abcdef-1",
    "SSH_KEY": "abcdef-2",
    "NOTE_TO_SELF": "use hf_" + "aB3" * 12,
    "REDIS_URL": "redis://:sesame@cache:6379",
    "GITLAB_PAT": "glpat-abcdef",
    "TEAMS_HOOK": "https://hooks.example/abcdef-3",
    "MAIL_PW": "abcdef-4",
    "HTTPS_PROXY": "http://me:abcdef-5@proxy:3128",
}
NEEDED = {
    **{"PATH": "/bin", "HOME": "/home/me", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "LC_ALL": "C"},
    **{"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    **{"PYTORCH_CUDA_ALLOC_CONF": "x", "TORCH_HOME": "/t", "NCCL_DEBUG": "INFO"},
    **{"LD_LIBRARY_PATH": "/lib", "RESNET_DEMO_MAX_EPOCHS": "3", "PYTHONPATH": "/src"},
}


def test_a_worker_gets_only_the_variables_that_it_needs():
    assert worker_environment({**SECRETS, **NEEDED, "KEYBOARD": "us"}, "train") == NEEDED


def test_only_a_download_gets_the_proxy():
    got = worker_environment({**SECRETS, "no_proxy": "lan"}, "get")
    assert set(got) == {"HTTPS_PROXY", "no_proxy"}


def test_the_variables_that_a_speed_depends_on_reach_the_worker():
    variables = dict.fromkeys(SPEED_VARIABLES, "2")
    assert worker_environment(variables, "train") == variables


def test_a_worker_gets_the_limits_and_no_secrets(launcher, tiny, owner, device, until):
    launcher.allowance = Allowance(Limits())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "RESNET_DEMO_MAX_MINUTES": "7"}.items():
            patch.setenv(name, value)
        run = Run(launcher.paths.runs / launcher.start(tiny(), owner))
    pid = until(lambda: read_status(run.path).pid)
    with open(f"/proc/{pid}/environ", "rb") as file:
        environment = file.read()
    assert not [value for value in SECRETS.values() if value.encode() in environment]
    assert b"RESNET_DEMO_PUBLIC=1" in environment
    assert b"RESNET_DEMO_MAX_MINUTES=7" in environment
