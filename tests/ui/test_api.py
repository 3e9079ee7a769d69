"""The five endpoints as a program calls them, through the client and by raw HTTP."""

import asyncio
import base64
import importlib.util
import io
import json
import os
import shutil
import struct
import threading
import time
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from zlib import compress, crc32

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from resnet_demo.cli import main
from resnet_demo.config import make_config
from resnet_demo.data.pictures import FITS, decode_picture
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import create_task
from resnet_demo.tasks.worker import TASKS
from resnet_demo.ui.api import classify_upload, evaluate_run
from resnet_demo.ui.services import Services
from tests import plain_http

TINY = {
    "dataset": "colours",
    "model": "resnet20",
    "batch_size": 16,
    "image_size": 12,
    "peak_lr": 0.02,
    "crop": 0,
    "keep": "best",
}
ENDPOINTS = ["/train", "/stop", "/run", "/evaluate", "/classify"]
NOT_UPLOADED = "a file must come through an upload, got a path of this machine"
META = {"_type": "gradio.FileData"}
HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None
HEIC_RULE = "damaged" if HAS_HEIC else "is a HEIC image: install"
NO_PICTURE = "a file must be uploaded first, got nothing"
RULE = "run_id must be 1 to 64 lowercase letters, digits and dashes, with no dash first, got "


@pytest.fixture(scope="module")
def app(start_app):
    return start_app()


@pytest.fixture(scope="module")
def command(app):
    """Return a function that runs the command line on the app's folders and returns its JSON."""
    torch.set_num_threads(1)  # as the app's

    def answer(*words):
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
            for name in ("RESNET_DEMO_RUNS", "RESNET_DEMO_DATA"):
                patch.setenv(name, app.environment[name])
            assert main([*map(str, words), "--json"]) == 0
        return json.loads(out.getvalue())

    return answer


@pytest.fixture(scope="module")
def here(app):
    """Return services on the app's folders whose workers run in this process."""
    services = Services(Paths(app.runs, app.data))

    def spawn(verb, folder, lock):
        TASKS[verb](folder, services.paths)
        os.close(lock)

    services.launcher.spawn = spawn
    return services


@pytest.fixture(scope="module")
def client(app):
    client = Client(app.url, verbose=False, ssl_verify=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def ask(client):
    """Return a function that calls an endpoint by name."""
    return lambda name, *values: client.predict(*values, api_name=f"/{name}")


@pytest.fixture(scope="module")
def refused(ask):
    """Return a function that calls an endpoint and returns its refusal."""

    def call(name, *values):
        with pytest.raises(AppError) as caught:
            ask(name, *values)
        return str(caught.value)

    return call


@pytest.fixture(scope="module")
def until(ask):
    """Return a function that waits until a run fulfils a condition, and returns its state."""

    def wait(run_id, fits, patience_s=90):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            seen = ask("run", run_id)
            if fits(seen):
                return seen
            time.sleep(0.1)
        raise AssertionError(f"the condition did not hold: {seen['state']}, {seen['progress']}")

    return wait


@pytest.fixture(scope="module")
def trained(ask, until):
    """Return a finished run of three epochs."""
    run_id = ask("train", {**TINY, "epochs": 3})
    until(run_id, lambda seen: seen["state"] == "finished")
    return run_id


@pytest.fixture(scope="module")
def training(ask, until):
    """Return a run that trains until it is stopped."""
    run_id = ask("train", {**TINY, "epochs": 1000})
    until(run_id, lambda seen: seen["progress"]["step"] > 0)
    return run_id


@pytest.fixture
def picture(tmp_path):
    """Return a red picture, the colour of one of the classes."""
    path = tmp_path / "red.png"
    pixels = np.random.default_rng(1).integers(0, 120, (12, 12, 3), dtype=np.uint8)
    pixels[..., 0] += 100
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def listener():
    """Yield the address of a server that must receive no request, and its list of requests."""
    requests = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def run_folders(app):
    return sorted(path.name for path in app.runs.iterdir()) if app.runs.exists() else []


def test_run_returns_state_progress_and_history(ask, trained):
    assert trained == "resnet20-colours-1"
    seen = ask("run", trained)
    assert seen.keys() >= {"run", "state", "message", "place", "progress", "best", "history"}
    assert (seen["run"], seen["state"], seen["message"]) == (trained, "finished", "3 epochs done")
    progress = seen["progress"]
    assert (progress["step"], progress["total_steps"]) == (27, 27)
    assert (progress["epoch"], progress["epochs"], progress["parameters"]) == (3, 3, 269_267)
    assert [row["epoch"] for row in seen["history"]] == [1, 2, 3]
    assert seen["best"]["val_top1"] == max(row["val_top1"] for row in seen["history"])
    assert seen["config"] == make_config({**TINY, "epochs": 3}).to_dict()


def test_an_evaluation_equals_that_of_the_command_line(app, ask, client, command, trained):
    jobs = [client.submit(trained, "test", api_name="/evaluate") for _ in range(2)]
    printed = command("evaluate", trained)
    first, second = (job.result(timeout=90) for job in jobs)
    assert first == second  # requested twice, computed once
    assert first == printed
    assert first["n"] == sum(map(sum, first["confusion"])) == 30
    assert len(list((app.runs / trained / "evaluations").iterdir())) == 1
    assert ask("evaluate", trained) == first  # test is the default


def test_mode_comparison_and_robustness_equal_those_of_the_command_line(
    app, ask, command, here, trained
):
    shutil.copytree(
        app.runs / trained, app.runs / "twin-1", ignore=shutil.ignore_patterns("evaluations")
    )
    args = (trained, "val", "flip", "twin-1", True)
    made = asyncio.run(evaluate_run(here, *args))
    answer = ask("evaluate", *args)
    words = ("--split", "val", "--mode", "flip", "--against", "twin-1", "--robustness")
    assert answer == made == command("evaluate", trained, *words)
    assert (answer["mode"], answer["beside"]["mode"]) == ("flip", "plain")
    against = answer["against"]
    assert (against["run"], against["difference"], against["p"]) == ("twin-1", 0, 1)
    assert (answer["robustness"]["n"], len(answer["robustness"]["kinds"])) == (15, 7)
    for run in (trained, "twin-1"):
        [folder] = (app.runs / run / "evaluations").glob("val-*-flip")
        assert (folder / "result.json").exists()
    [folder] = (app.runs / trained / "evaluations").glob("robustness-*")
    assert "robustness" not in ask("evaluate", trained)


def test_waiting_for_an_evaluation_does_not_block_others_and_can_be_cancelled(tmp_path):
    folder, served = tmp_path / "task", threading.Event()
    lock = create_task(folder, {"task.json": b"{}"})  # its worker never ends

    def start(*_):
        assert served.wait(60)  # the loop serves others meanwhile
        return folder

    services = SimpleNamespace(caller=lambda: None, evaluations=SimpleNamespace(start=start))

    async def both():
        waiting = asyncio.create_task(evaluate_run(services, "some-1", "test"))
        await asyncio.sleep(0.05)
        served.set()
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(both())
    os.close(lock)


def test_mistakes_in_an_evaluation_are_reported_before_anything_is_computed(app, refused, trained):
    before = sorted((app.runs / trained).rglob("*"))
    assert refused("evaluate", trained, "val", "article", "nobody-1") == (
        "run must be the id of a run on this machine, got 'nobody-1'"
    )
    for mode in ("", "Flip", 5, {"a": 1}):
        modes = "plain, flip, flip-and-shift, flip-and-five-shifts, article"
        sentence = f"mode must be one of {modes}, got {mode!r}"
        assert refused("evaluate", trained, "test", mode) == sentence
    for value, shown in (("yes", "'yes'"), (1, "1"), (None, "nothing")):
        sentence = f"robustness must be true or false, got {shown}"
        assert refused("evaluate", trained, "test", "plain", "", value) == sentence
    assert refused("evaluate", trained, "all", "plain", "", True).startswith("split must be one of")
    assert refused("evaluate", trained, "test", "plain", {"a": 1}) == RULE + "{'a': 1}"
    assert sorted((app.runs / trained).rglob("*")) == before


def test_classify_returns_the_labels_of_the_command_line(client, command, trained, picture):
    job = client.submit(handle_file(picture), trained, api_name="/classify")
    line = command("classify", trained, picture)
    answer = job.result(timeout=90)
    labels = answer["labels"]
    assert [row["label"] for row in labels] == [row["label"] for row in line["labels"]]
    confidences = [row["confidence"] for row in labels]
    assert confidences == pytest.approx([row["confidence"] for row in line["labels"]])
    assert sorted(row["label"] for row in labels) == ["blue", "green", "red"]
    assert sum(confidences) == pytest.approx(1)
    assert (answer["similar"], answer["inside"]) == (None, None)  # not requested


def test_stages_and_similar_training_images_are_those_of_the_command_line(
    ask, command, here, trained, tmp_path
):
    picture = tmp_path / "wide.png"
    noise = np.random.default_rng(2).integers(0, 256, (16, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    here.image_indexes.start(trained, here.caller())
    answer = ask("classify", handle_file(picture), trained, "pad", 1, "", True, True)
    words = ("--fit", "pad", "--similar", "--inside", tmp_path / "inside")
    line = command("classify", trained, picture, *words)
    assert [one["stage"] for one in answer["inside"]] == ["stem", "stage 1", "stage 2", "stage 3"]
    for one, printed in zip(answer["inside"], line["inside"], strict=True):
        drawn = decode_picture(io.BytesIO(base64.b64decode(one["png"])), name="png")
        assert one["stage"] == printed["stage"]
        np.testing.assert_array_equal(drawn, decode_picture(Path(printed["file"])))
    for one, printed in zip(answer["similar"], line["similar"], strict=True):
        assert (one["place"], one["label"]) == (printed["place"], printed["label"])
        assert one["cosine"] == pytest.approx(printed["cosine"])
    assert answer["dataset_changed"] is line["dataset_changed"] is False


def test_similar_images_of_a_dataset_that_has_changed_say_so(ask, app, here, trained, picture):
    here.image_indexes.start(trained, here.caller())
    config = app.runs / trained / "config.json"
    before = config.read_text()
    values = json.loads(before)
    values["fingerprint"]["digest"] = "0" * len(values["fingerprint"]["digest"])
    config.write_text(json.dumps(values))  # as if it had been trained on other pictures
    try:
        answer = ask("classify", handle_file(picture), trained, "", 1, "", True)
    finally:
        config.write_text(before)
    assert answer["dataset_changed"] is True
    assert len(answer["similar"]) == 5


def test_without_the_images_the_error_explains_how_to_get_them(app, trained, tmp_path):
    elsewhere = Services(Paths(app.runs, tmp_path / "none"))
    before = sorted((app.runs / trained).rglob("*"))
    for call in (
        classify_upload(elsewhere, None, trained, "crop", 5, "", similar=True),
        evaluate_run(elsewhere, trained, "val", robustness=True),
    ):
        with pytest.raises(NotFoundError) as caught:
            asyncio.run(call)
        assert str(caught.value) == (
            "the images of colours are not on this machine; get them on the Data tab, or with: "
            "python -m resnet_demo data import colours PATH"
        )
    assert sorted((app.runs / trained).rglob("*")) == before


def test_an_answer_has_a_class_map_and_the_label_of_each_fit(app, ask, command, trained, tmp_path):
    path = tmp_path / "wide.png"
    noise = np.random.default_rng(2).integers(0, 256, (16, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    answers = {fit: ask("classify", handle_file(path), trained, fit, 3) for fit in FITS}
    classifier = Classifier.load(Run(app.runs / trained))
    for fit, answer in answers.items():
        expected = classifier.classify(noise, 3, fit)
        assert confidences(answer["labels"]) == pytest.approx(confidences(expected.labels))
        assert answer["outside"]["threshold"] == expected.ood.threshold
        assert answer["outside"]["energy"] == pytest.approx(expected.ood.score)
        assert (answer["fit"], answer["seen"], answer["against"]) == (fit, 12, None)
        class_map = classifier.class_map(noise, answer["map"]["label"], fit)
        assert answer["map"]["label"] == answer["labels"][0]["label"]
        assert np.array(answer["map"]["values"]) == pytest.approx(
            np.array(class_map.coarse), abs=1e-5
        )
        assert {way: one["label"] for way, one in answer["fits"].items()} == {
            way: other["labels"][0]["label"] for way, other in answers.items()
        }
    line = command("classify", trained, path, "--fit", "squash")
    assert confidences(line["labels"]) == pytest.approx(confidences(answers["squash"]["labels"]))


def test_a_raw_call_may_leave_out_arguments_with_defaults(app, ask, trained, picture):
    with picture.open("rb") as file:
        sent = plain_http.post(f"{app.url}gradio_api/upload", files={"files": file}, timeout=60)
    uploaded = {"path": sent.json()[0], "meta": META}
    event, (answer,) = app.call("classify", uploaded, trained)
    assert event == "complete"
    assert (answer["fit"], len(answer["labels"]), answer["against"]) == ("crop", 3, None)
    assert app.call("classify", uploaded, trained, "pad")[1][0]["fit"] == "pad"
    assert app.call("evaluate", trained) == ("complete", [ask("evaluate", trained)])
    assert app.call("classify", uploaded) == refusal(RULE + "nothing")


def test_two_runs_can_classify_one_picture(ask, trained, picture):
    answer = ask("classify", handle_file(picture), trained, "crop", 2, trained)
    assert answer["against"] == {"run": trained, "labels": answer["labels"]}
    assert len(answer["labels"]) == 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("fill",), "fit must be one of crop, squash, pad, got 'fill'"),
        ((["crop"],), "fit must be one of crop, squash, pad, got ['crop']"),
        (("crop", 0), "top must be a whole number from 1 to 5, got 0"),
        (("crop", 6), "top must be a whole number from 1 to 5, got 6"),
        (("crop", 2.5), "top must be a whole number from 1 to 5, got 2.5"),
        (("crop", True), "top must be a whole number from 1 to 5, got True"),
        (("crop", "5"), "top must be a whole number from 1 to 5, got '5'"),
        (("crop", 5, "../x"), RULE + "'../x'"),
        (("crop", 5, 7), RULE + "7"),
        (("crop", 5, "nobody-1"), "run must be the id of a run on this machine, got 'nobody-1'"),
        (("crop", 5, "", "yes"), "similar must be true or false, got 'yes'"),
        (("crop", 5, "", None), "similar must be true or false, got nothing"),
        (("crop", 5, "", False, 1), "inside must be true or false, got 1"),
    ],
    ids=repr,
)
def test_a_wrong_argument_of_classify_gets_one_sentence(more, sentence, refused, trained, picture):
    assert refused("classify", handle_file(picture), trained, *more) == sentence


def confidences(labels):
    """Return label -> confidence."""
    return {row["label"]: row["confidence"] for row in labels}


def test_one_run_trains_and_the_next_waits_in_the_queue(ask, until, refused, training):
    waiting = ask("train", {**TINY, "epochs": 1000})
    queued = until(waiting, lambda seen: seen["place"] is not None)
    assert (queued["state"], queued["place"]) == ("queued", 1)
    assert refused("evaluate", waiting, "test") == (
        f"{waiting} has no weights yet: its first epoch is not finished"
    )
    assert ask("stop", waiting) == f"{waiting} is removed from the queue"
    stopped = until(waiting, lambda seen: seen["state"] == "stopped")
    assert stopped["progress"]["step"] == 0
    assert ask("run", training)["state"] == "running"


def test_a_run_that_trains_can_be_stopped(ask, until, training):
    live = ask("run", training)
    assert live["state"] == "running"
    assert live["progress"]["images_per_s"] > 0
    ask("stop", training)
    ended = until(training, lambda seen: seen["state"] == "stopped")
    assert ended["progress"]["step"] >= live["progress"]["step"]
    assert ask("stop", training) == f"{training} is not running: it is stopped"


@pytest.mark.parametrize(
    "config",
    [
        *({"epochs": value} for value in (0, 1001, 2.5, True, None, "3", [], "x" * 500)),
        *({"peak_lr": value} for value in (0, "fast", None, 1e9)),
        *({"batch_size": value} for value in (0, -5, 5000)),
        *({"flip": value} for value in ("yes", 1, None)),
        *({"model": value} for value in ("resnet1", "", None, 18, "../x")),
        {"optimizer": "SGD"},
        {"val_share": 0.6},
        {"recipe": "fast"},
        {"recipe": None},
        {"recipe": ["quick"]},
        {"learning_rate": 0.1},
        {"": 1},
        {"epochs": 2, "warmup_epochs": 3},
        {"cutout": 40},
        {"model": "vgg16", "image_size": 16},
        {"dataset": "nothing"},
        {"dataset": "../colours"},
        {"dataset": None},
        {"dataset": "colours", "batch_size": 136},
        ["epochs"],
        "quick",
        None,
    ],
    ids=lambda config: json.dumps(config)[:60],
)
def test_a_wrong_config_is_refused_with_its_own_error_and_starts_nothing(
    config, app, refused, colours
):
    with pytest.raises(ConfigError) as expected:
        check_data(make_config(config), Datasets(colours))
    before = run_folders(app)
    assert refused("train", config) == str(expected.value)
    assert run_folders(app) == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *((name, RULE + repr(name)) for name in ("..", "", "/etc", "a/../b", "A", "-a", ".trash")),
        *((name, RULE + repr(name)) for name in ("a\0b", "\0", "a" * 65, "a\n", "colours/1", 5)),
        (None, RULE + "nothing"),
        ({"path": "a"}, RULE + "{'path': 'a'}"),
        ("nobody-1", "run must be the id of a run on this machine, got 'nobody-1'"),
    ],
    ids=repr,
)
def test_an_unknown_run_is_refused_by_every_endpoint(name, sentence, refused, picture):
    file = handle_file(picture)
    calls = (("run", name), ("stop", name), ("evaluate", name, "test"), ("classify", file, name))
    assert {refused(*call) for call in calls} == {sentence}


def test_an_unknown_split_is_refused(refused, trained):
    for split in ("Test", "../test", "", None, 1):
        value = "nothing" if split is None else repr(split)
        expected = f"split must be one of test, val, train, got {value}"
        assert refused("evaluate", trained, split) == expected


def test_a_file_of_this_machine_is_not_an_upload(app, ask, trained, picture):
    inside = app.uploads / "link"
    inside.mkdir(parents=True, exist_ok=True)
    os.symlink(picture, inside / "red.png")
    paths = [
        *(str(picture), "/etc/passwd", f"file://{picture}", f"{app.uploads}/../app.log"),
        *(f"{inside}/red.png", str(app.uploads), "red.png", "\ud800", "x" * 5000),
        *(str(app.runs / trained / "config.json"), "data:image/png;base64,aaaa"),
    ]
    for path in paths:
        assert app.call("classify", {"path": path}, trained) == refusal(NOT_UPLOADED), path
        # marked as a file, Gradio itself refuses it without a message
        event, answer = app.call("classify", {"path": path, "meta": META}, trained)
        assert (event, answer["error"]) in (("error", None), ("error", NOT_UPLOADED)), path
    assert ask("classify", handle_file(picture), trained)["labels"]


def refusal(sentence):
    """Return the event and data of a refusal."""
    return "error", {"error": sentence, "duration": 10, "visible": True, "title": "Error"}


def test_a_missing_picture_is_refused_with_a_sentence(app, trained):
    paths = ("", None, "a\0b", ["a"], 5)
    values = (None, "", "/etc/passwd", 5, [1, 2], {}, {"url": "x"})
    for value in (*values, *({"path": path} for path in paths)):
        assert app.call("classify", value, trained) == refusal(NO_PICTURE), value


def test_a_url_instead_of_a_picture_is_never_fetched(app, ask, trained, listener, picture):
    address, requests = listener
    url = f"{address}/red.png"
    for value in ({"path": url}, {"path": "red.png", "url": url}, {"path": url, "url": url}):
        assert app.call("classify", value, trained) == refusal(NOT_UPLOADED)
        event, _ = app.call("classify", {**value, "meta": META}, trained)
        assert event == "error"
    assert requests == []
    assert ask("classify", handle_file(picture), trained)["labels"]


def test_an_invalid_picture_gets_a_sentence_and_the_app_keeps_running(
    app, ask, refused, trained, picture, tmp_path
):
    whole = picture.read_bytes()
    files = {
        "short.png": (whole[: len(whole) // 2], "is cut short or damaged"),
        "empty.png": (b"", "is empty"),
        "text.png": (
            b"not a picture\n",
            "is not a PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, PPM or PGM image",
        ),
        "drawn.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG image"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", HEIC_RULE),
        "bomb.png": (bomb(13_000), "is too large: 13000x13000 pixels, the most is 50,000,000"),
    }
    before = app.log.stat().st_size
    for name, (content, rule) in files.items():
        file = tmp_path / name
        file.write_bytes(content)
        sentence = refused("classify", handle_file(file), trained)
        assert rule in sentence
        assert name in sentence
        assert "\n" not in sentence
    with open(app.log, encoding="utf-8") as log:
        log.seek(before)
        assert "Traceback" not in log.read()
    assert ask("classify", handle_file(picture), trained)["labels"]


def bomb(side):
    """Return a tiny PNG file whose header claims this many pixels per side."""
    head = struct.pack(">LLBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", compress(bytes(1000))), (b"IEND", b"")]
    chunks = (struct.pack(">L", len(d)) + n + d + struct.pack(">L", crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_data_url_is_not_an_upload(app, trained, picture):
    address = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    for value in ({"path": address}, {"url": address}, {"path": address, "url": address}, address):
        event, answer = app.call("classify", value, trained)
        assert (event, answer["error"]) in (("error", NOT_UPLOADED), ("error", NO_PICTURE)), value
    for value in ({"path": address, "meta": META}, {"url": address, "meta": META}):
        event, answer = app.call("classify", value, trained)
        assert event == "error", value


def test_a_picture_as_large_as_an_archive_is_refused(app, trained, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(21 * 2**20))
    with (tmp_path / "large.png").open("rb") as file:
        sent = plain_http.post(f"{app.url}gradio_api/upload", files={"files": file}, timeout=60)
    picture = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
    event, data = app.call("classify", picture, trained)
    assert (event, data["error"]) == (
        "error",
        "the picture must be a file of at most 20,971,520 bytes, got 22,020,096",
    )


def test_only_the_five_endpoints_are_public(app, client):
    api = client.view_api(return_format="dict", print_info=False)
    assert list(api["named_endpoints"]) == ENDPOINTS
    assert not api["unnamed_endpoints"]
    info = plain_http.get(f"{app.url}gradio_api/info").json()
    assert list(info["named_endpoints"]) == ENDPOINTS
    assert not info["unnamed_endpoints"]


@pytest.mark.parametrize(
    "path",
    [
        "openapi.json",
        "gradio_api/openapi.json",
        "docs",
        "redoc",
        "monitoring",
        "monitoring/summary",
    ],
)
def test_paths_that_the_page_does_not_need_are_closed(path, app):
    assert plain_http.get(app.url + path).status_code in (403, 404)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_is_refused(origin, app):
    options = {"headers": {"Origin": origin}}
    for answer in (
        plain_http.post(f"{app.url}gradio_api/call/train", json={"data": [{}]}, **options),
        plain_http.get(f"{app.url}config", **options),
        plain_http.post(f"{app.url}gradio_api/upload", files={"files": b"x"}, **options),
    ):
        assert answer.status_code == 403
    assert plain_http.get(app.url, headers={"Host": "rebound.example"}).status_code == 400


def test_no_file_of_this_machine_is_served(app, trained, picture):
    run = app.runs / trained
    for path in (run / "config.json", run / "last.pt", app.log, picture, "/etc/passwd", "app.py"):
        answer = plain_http.get(f"{app.url}gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
