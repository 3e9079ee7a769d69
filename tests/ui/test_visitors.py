"""Several visitors of one public app, by raw HTTP: they do not see each other's data."""

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from gradio import routes
from PIL import Image

from resnet_demo.hosting.access import Access
from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import Limits
from resnet_demo.ui import gradio_fixes
from resnet_demo.ui.app import build_app, launch
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.gradio_fixes import MAX_UPLOAD_FILES, MAX_UPLOADS_SHOWN
from resnet_demo.ui.learn.guess import SHOWN
from tests import plain_http
from tests.conftest import REPOSITORY, AppProcess, free_port
from tests.pages import Page
from tests.ui.fake_evaluations import save_evaluation, untrained_runs

NAMES = {"mine": ("my lion", "my tiger", "my bear"), "yours": ("your oak", "your elm", "your ash")}
CLASSIFIED = ["mine", "crop", ""]
NO_ENDPOINT = "there is no endpoint of that name or number\n"


PUBLIC = {
    "RESNET_DEMO_PUBLIC": "1",
    "RESNET_DEMO_MAX_UPLOADS": "3",
    "RESNET_DEMO_MAX_PICTURES": "6",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory, colours):
    """Return a public app without owner, in this process. Two runs have different class names."""
    root = tmp_path_factory.mktemp("public")
    untrained_runs(root / "runs", *NAMES)
    for name, classes in NAMES.items():
        values = model_description(root / "runs" / name) | {"classes": [*classes]}
        description = encode_description(Description(**values))
        (root / "runs" / name / "model.json").write_bytes(description)
    access, limits = Access.from_environment(PUBLIC), Limits.from_environment(PUBLIC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "uploads"))
        page = build_app(Paths(root / "runs", colours, root / "shipped"), access, limits)
        _, url, _ = launch(
            page, access, limits, server_port=free_port(), prevent_thread_lock=True, quiet=True
        )
        served = AppProcess(root / "runs", colours, int(url.rstrip("/").rpartition(":")[2]))
        served.page = page
        yield served
        page.close()


@pytest.fixture
def visitor(app):
    """Return a function that makes visitors with different addresses."""

    def make(number):
        headers = {"x-forwarded-for": f"203.0.113.{number}"}
        return app.with_headers(**headers)

    return make


def upload(app, content, name="picture.png"):
    return plain_http.post(
        f"{app.url}gradio_api/upload",
        files={"files": (name, content)},
        headers=app.headers,
        timeout=60,
    )


def picture(colour):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 12, 3), colour, np.uint8)).save(file, "png")
    return file.getvalue()


def upload_picture(app, colour):
    """Upload a picture; return it as a page passes it to an event."""
    answer = upload(app, picture(colour))
    assert answer.status_code == 200, answer.text
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def open_page(app):
    """Return a page on the Classify tab."""
    page = Page(app)
    page.run_event(page.event("select", updates="classify-run"), False, None, "")
    return page


def classify(page, file, run):
    """Classify an upload; return what the page then shows, as text."""
    event = page.event("change", of="picture", updates="answer-run")
    done, output = page.run_event(event, file, run, "crop", "")
    assert done, output
    return json.dumps(output["data"])


def test_concurrent_visitors_see_their_own_pictures_and_runs(visitor):
    def one(number, run):
        page = open_page(visitor(number))
        file = upload_picture(page.app, 40 * number)
        return [classify(page, file, run) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(NAMES, pool.map(one, (1, 2), NAMES), strict=True))
    for name, other in (("mine", "yours"), ("yours", "mine")):
        for text in answers[name]:
            assert all(label in text for label in NAMES[name])
            assert not any(label in text for label in NAMES[other])


def test_calls_at_the_same_moment_are_answered_each_with_its_own_picture(visitor):
    """The same with a hundred real visitors of a real app is in test_many_visitors.py."""
    visitors = [visitor(100 + number) for number in range(8)]
    pictures = [upload_picture(each, 30 * number) for number, each in enumerate(visitors)]

    def ask(number, together):
        together.wait()
        return visitors[number].call("classify", pictures[number], "mine")

    alone = [ask(number, threading.Barrier(1)) for number in range(8)]
    assert len({json.dumps(answer) for answer in alone}) == 8
    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(ask, range(8), [together] * 8)] == alone


def test_uploads_are_removed_with_the_last_page_that_shows_them(app, visitor):
    pages = [open_page(visitor(number)) for number in (3, 4)]
    closes = [keep_open(page) for page in pages]
    alone, both = upload_picture(pages[0].app, 10), upload_picture(pages[0].app, 20)
    assert upload_picture(pages[1].app, 20)["path"] == both["path"]  # the same file is kept once
    for page, file in ((pages[0], alone), (pages[0], both), (pages[1], both)):
        classify(page, file, "mine")
    here = {name: app.uploads / file["path"] for name, file in (("a", alone), ("b", both))}
    assert here["a"].exists()
    assert here["b"].exists()
    closes[0]()
    until(lambda: not here["a"].exists())
    assert here["b"].exists()
    closes[1]()
    until(lambda: not here["b"].exists())


def until(question):
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def keep_open(page):
    """Keep a page open; return a function that closes it."""
    opened, closing = threading.Event(), threading.Event()

    def hold():
        url = f"{page.app.url}gradio_api/heartbeat/{page.session}"
        with plain_http.stream("GET", url, timeout=60):
            opened.set()
            closing.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(60)
    return lambda: (closing.set(), thread.join())


def test_an_api_call_leaves_no_session_behind(app, visitor):
    sessions, client = app.page.state_holder.session_data, visitor(9)
    before, file = set(sessions), upload_picture(client, 50)
    assert client.call("classify", file, "mine")[0] == "complete"
    assert client.call("run", "mine")[0] == "complete"
    assert client.call("run", "nobody")[0] == "error"
    assert client.call("stop", "mine")[0] == "error"
    assert set(sessions) == before


def test_a_flood_of_uploads_is_refused_and_others_are_served(visitor):
    flood, other = visitor(5), visitor(6)
    codes = [upload(flood, bytes(900_000), "a.bin").status_code for _ in range(6)]
    assert codes == [200] * 3 + [429] * 3
    assert upload(other, picture(1)).status_code == 200
    whole = upload(other, bytes(3_100_000), "b.bin")
    assert whole.status_code == 413
    assert whole.text == "at most 3 MB may be uploaded within 10 minutes\n"
    endless = plain_http.post(
        f"{other.url}gradio_api/upload", content=iter([b"x"] * 3), headers=other.headers, timeout=60
    )
    assert (endless.status_code, endless.text) == (411, "an upload must have a Content-Length\n")


def test_a_flood_of_requests_is_refused_and_others_are_served(visitor):
    flood, other = visitor(7), visitor(8)
    file = upload_picture(flood, 30)
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda _: flood.call("classify", file, "mine"), range(16))]
    refused = [answer["error"] for event, answer in answers if event == "error"]
    assert 1 <= len(refused) <= 10  # a slow machine may need more than a minute for all
    assert all(text.startswith("at most 6 pictures a minute may be") for text in refused)
    assert other.call("classify", file, "yours")[0] == "complete"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        *(
            (path, {"data": [], "fn_index": number, "session_hash": "x"}, 404, NO_ENDPOINT)
            for path, number in (
                ("call/v2/nothing", 0),
                ("call/nothing", 0),
                ("queue/join", 99_999),
                ("queue/join", -1),
                ("api/nothing", None),
            )
        ),
        ("call/v2/run", {"wrong": 1}, 422, "Parameter `wrong` is not a valid key-word argument\n"),
        ("call/v2/run", {}, 422, "No value provided for required argument: run_id\n"),
        ("call/v2/run", {"run_id": "mine"}, 200, "event_id"),
    ],
)
def test_a_call_with_wrong_names_is_answered_without_a_traceback(
    visitor, capfd, path, body, status, text
):
    client = visitor(32)
    url = f"{client.url}gradio_api/{path}"
    answer = plain_http.post(url, json=body, headers=client.headers, timeout=60)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_file_is_served_in_one_range_of_bytes(visitor, capfd):
    client = visitor(35)
    url = f"{client.url}gradio_api/file={upload_picture(client, 1)['path']}"
    odd = ("9999999-9999999", "1-2-3", f"{'9' * 5000}-1")
    for byte_range, status in (("0-9", 206), *((each, 416) for each in odd)):
        headers = {**client.headers, "range": f"bytes={byte_range}"}
        assert plain_http.get(url, headers=headers).status_code == status, byte_range[:20]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("parts", [{"files": (None, "x" * 9)}, {"other": ("a.png", b"x")}])
def test_an_upload_may_have_files_only(visitor, parts):
    client = visitor(33)
    url = f"{client.url}gradio_api/upload"
    answer = plain_http.post(url, files=parts, headers=client.headers, timeout=60)
    assert answer.status_code == 400
    assert answer.text == "an upload may have files only, in parts named files"


def test_an_upload_that_is_broken_off_or_refused_leaves_no_file_and_holds_none_open(app, visitor):
    folder, client = app.uploads, visitor(34)
    head = "POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 900000\r\n"
    head += "x-forwarded-for: 203.0.113.34\r\ncontent-type: multipart/form-data; boundary=b\r\n\r\n"
    part = '--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n'
    before = set(folder.iterdir()), len(os.listdir("/proc/self/fd"))
    with socket.create_connection(("127.0.0.1", app.port)) as talk:
        talk.sendall((head + part * 150).encode())
        until(lambda: len(set(folder.iterdir()) - before[0]) == 150)
        assert len(os.listdir("/proc/self/fd")) < before[1] + 20
    until(lambda: set(folder.iterdir()) == before[0])
    many = [("files", ("a.png", b"")) for _ in range(MAX_UPLOAD_FILES + 1)]
    url = f"{client.url}gradio_api/upload"
    answers = [
        plain_http.post(url, files=files, headers=client.headers, timeout=60)
        for files in (many[:-1], many)
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert len(answers[0].json()) == MAX_UPLOAD_FILES
    assert answers[1].text == "an upload may have at most 200 files"
    assert all(len(path.name) == 64 for path in set(folder.iterdir()) - before[0])


def test_events_and_requests_that_make_no_sense_write_few_tracebacks(visitor, capfd, caplog):
    client = visitor(37)
    page = open_page(client)
    event, url = page.event("change", of="picture"), f"{client.url}gradio_api/queue/join"
    capfd.readouterr()
    for number in range(20):
        body = {"data": [], "fn_index": -number - 1, "session_hash": "any"}
        assert httpx.post(url, json=body, headers=client.headers).status_code == 404
        assert not page.run_event(event, 5, *CLASSIFIED)[0]
    texts = "".join(capfd.readouterr()) + caplog.text
    assert 1 <= texts.count("Traceback (most recent call last)") <= 10  # chained ones have several


def test_an_address_in_place_of_a_file_is_fetched_by_no_event(visitor, monkeypatch):
    fetched = []

    async def get(url, **options):
        fetched.append(url)
        raise OSError("no network")

    monkeypatch.setattr("safehttpx.get", get)
    client, rule = visitor(36), "a file must come through an upload, got an address"
    sent = {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    page = open_page(client)
    event, several = page.event("change", of="picture"), page.event("change", of="pictures")
    assert page.run_event(event, sent, *CLASSIFIED)[1]["error"] == rule
    assert page.run_event(several, None, [sent], "mine", "crop", None)[1]["error"] == rule
    assert client.call("classify", sent, "mine")[0] == "error"
    assert not fetched


def test_long_or_many_names_of_pages_and_uploads_are_not_remembered(app, visitor):
    client, progress = visitor(35), routes.file_upload_statuses
    body = {"data": [False, None, ""], "fn_index": 0, "session_hash": "x" * 65}
    answer = plain_http.post(
        f"{client.url}gradio_api/queue/join", json=body, headers=client.headers
    )
    assert answer.status_code == 400
    assert "session_hash may have at most 64 characters" in answer.text
    for number in range(MAX_UPLOADS_SHOWN + 10):
        progress.append(str(number), "a.png", b"xy")
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(progress.is_tracked(f"other {number}"), 0))
    assert len(progress._statuses) == len(progress._signals) == MAX_UPLOADS_SHOWN
    shown = f"{client.url}gradio_api/upload_progress?upload_id={number}"
    with plain_http.stream("GET", shown, headers=client.headers, timeout=60) as stream:
        assert '"chunk_size": 2' in next(stream.iter_lines())


@pytest.fixture
def proxied(app, tmp_path):
    """Return the app behind nginx, with the block of docs/hosting.md."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("no nginx on this machine")
    text = (REPOSITORY / "docs" / "hosting.md").read_text()
    block = text[text.index("proxy_set_header Host") :].partition("```")[0]
    block = block.replace("127.0.0.1:7860", f"127.0.0.1:{app.port}")
    port, folders = free_port(), ""
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        folders += f"{name}_temp_path {tmp_path}/{name};\n"
    # Started by root, its workers would be another user, who cannot write here.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders} server {{ listen 127.0.0.1:{port};\n{block} }} }}"
    )
    command = [program, "-e", f"{tmp_path}/error.log", "-p", tmp_path, "-c", "nginx.conf"]
    process = subprocess.Popen(command)
    behind = app.with_headers()
    behind.url = f"http://127.0.0.1:{port}/"
    until(lambda: process.poll() is not None or is_answered(behind.url))
    yield behind
    process.terminate()
    process.wait()


def is_answered(url):
    try:
        return plain_http.get(url, timeout=60).is_success
    except httpx.TransportError:
        return False


def test_the_block_for_nginx_serves_pages_events_and_uploads(proxied):
    own = {"origin": proxied.url.rstrip("/")}
    proxied.headers = own
    assert upload(proxied, bytes(1_500_000), "a.bin").status_code == 200
    url = f"{proxied.url}gradio_api/call/run"
    assert plain_http.post(url, content=bytes(1_100_000), headers=own).status_code == 413
    assert plain_http.get(proxied.url, headers=own | {"origin": "http://evil"}).status_code == 403
    page = open_page(proxied)  # its events arrive as a stream
    assert page.config["root"] == proxied.url.rstrip("/")
    assert proxied.call("run", "mine")[0] == "complete"


PICKLE = b"cos\nsystem\n(S'touch /tmp/never'\ntR."


@pytest.mark.parametrize("name", ["a.png", "a.pkl", "last.pt", "data_batch_1"])
def test_an_uploaded_pickle_is_refused(visitor, name):
    stranger = visitor(20 + len(name))  # whose quota is not used up
    path = upload(stranger, PICKLE, name).json()[0]
    event, answer = stranger.call("classify", {"path": path}, "mine")
    assert event == "error"
    assert "is not a PNG, JPEG" in answer["error"]
    assert "\n" not in answer["error"]


def test_no_event_can_be_called_past_the_queue(app, visitor):
    client = visitor(30)
    for event in Page(client).config["dependencies"]:
        if event["backend_fn"]:
            body = {"data": [], "fn_index": event["id"], "session_hash": "any"}
            for name in ("predict", event["api_name"]):
                url = f"{client.url}gradio_api/run/{name}"
                assert plain_http.post(url, json=body, headers=client.headers).status_code == 404


def first_values(page, event):
    """Return the values that the event's inputs have on a fresh page."""
    values = {part["id"]: part["props"].get("value") for part in page.config["components"]}
    events = {event["id"]: event for event in page.config["dependencies"]}
    return [values[part] for part in events[event]["inputs"]]


def test_previews_and_surgery_wait_in_the_queue_that_serves_visitors_in_turn(app, visitor):
    page, queue = Page(visitor(31)), app.page.polling.services.fair_queue
    assert page.run_event(page.event("expand", of="preview"), None)[0]
    assert page.run_event(page.event("select", updates="surgery-run"), None)[0]
    preview = page.event("change", updates="preview-shown")
    events = {
        preview: first_values(page, preview),
        page.event("change", of="surgery-run"): ["mine", {"surgery": SHOWN}],
        page.event("click", of="surgery-each"): ["mine", None],
    }
    free, most, queue.free, queue.max_waiting = queue.free, queue.max_waiting, 0, 0
    try:
        for event, values in events.items():
            done, output = page.run_event(event, *values)
            assert not done
            assert output["error"] == "0 requests are waiting: try again in a moment"
    finally:
        queue.free, queue.max_waiting = free, most


def test_a_flood_of_pages_costs_only_the_flood_its_own(app, visitor, monkeypatch):
    holder, queue = app.page.state_holder, app.page._queue
    monkeypatch.setattr(holder, "capacity", len(holder.session_data) + 8)
    monkeypatch.setattr(gradio_fixes, "MAX_UNREAD", 5)
    page, flood = Page(visitor(40)), Page(visitor(41))
    event = flood.event("select", updates="classify-run")
    others = set(holder.session_data) - {flood.session}
    for number in range(40):
        flood.session = f"flood-{number}"
        flood.start_event(event, False, None, "")  # its answer is never fetched
    until(lambda: not queue.event_ids_to_events)  # the answers of waiting events are kept
    flood.run_event(event, False, None, "")
    floods = [key for key in holder.session_data if key.startswith("flood")]
    assert 6 <= len(floods) <= 9
    assert others <= set(holder.session_data)
    assert page.session in queue.pending_messages_per_session
    unread = [key for key in queue.pending_messages_per_session if key.startswith("flood")]
    assert len(unread) <= 6
    assert len(queue.pending_event_ids_session) <= len(queue.pending_messages_per_session)


def surgery_of(page):
    """Return an event of a page that computes, and its values."""
    assert page.run_event(page.event("select", updates="surgery-run"), None)[0]
    return page.event("change", of="surgery-run"), "mine", {"surgery": SHOWN}


def test_a_flood_of_events_is_refused_and_delays_nobody_else(app, visitor, monkeypatch):
    monkeypatch.setattr(gradio_fixes, "MAX_EVENTS", 8)
    monkeypatch.setattr(gradio_fixes, "MAX_ACTIVE", 4)
    page, flood, line = Page(visitor(42)), Page(visitor(43)), app.page.polling.services.fair_queue
    event = surgery_of(flood)
    free, line.free = line.free, 0  # what computes waits
    try:
        for _ in range(8):
            flood.start_event(*event)
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            flood.start_event(*event)
        until(lambda: line.waiting == gradio_fixes.MAX_ACTIVE)
        # The other places are left for others.
        assert page.run_event(page.event("select", updates="classify-run"), False, None, "")[0]
        assert line.waiting == gradio_fixes.MAX_ACTIVE
    finally:
        for _ in range(free):
            line._release()
    until(lambda: not line.waiting and not len(app.page._queue))


def test_large_events_that_wait_are_limited_by_their_bytes(app, visitor, monkeypatch):
    monkeypatch.setattr(gradio_fixes, "MAX_EVENT_BYTES", 1_000_000)
    flood, line = Page(visitor(44)), app.page.polling.services.fair_queue
    event, run, shown = surgery_of(flood)
    free, line.free = line.free, 0
    try:
        for _ in range(3):
            flood.start_event(event, run, shown | {"more": "x" * 300_000})
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            flood.start_event(event, run, shown | {"more": "x" * 300_000})
    finally:
        for _ in range(free):
            line._release()
    until(lambda: not line.waiting and not len(app.page._queue))


def open_result(page):
    """Show the evaluation of the run `mine` on a page; its parts are drawn by further events."""
    empty = [False, None, "test", "plain", ""]
    assert page.run_event(page.event("select", updates="evaluate-run"), *empty)[0]
    tick = next(
        event["id"]
        for event in page.config["dependencies"]
        if page.component("unit") in event["inputs"] and len(event["inputs"]) == 7
    )
    done, output = page.run_event(tick, "percent", False, None, "mine", "test", "plain", "")
    assert done, output


def test_every_computation_on_the_page_counts_as_a_picture(app, visitor):
    services = app.page.polling.services
    save_evaluation(StatusCache(services), Selection("mine"))
    page = open_page(visitor(45))
    file = upload_picture(page.app, 90)
    assert page.run_event(page.event("select", updates="surgery-run"), None)[0]
    assert page.run_event(page.event("expand", of="preview"), None)[0]
    assert page.run_event(page.event("expand", of="feature-maps"), None)[0]
    parts = {part["id"]: part["props"].get("label") for part in page.config["components"]}
    [many] = [part for part, label in parts.items() if label == "Several pictures"]
    events = page.config["dependencies"]
    [side] = [each["id"] for each in events if [many, "select"] in each["targets"]]
    assert page.run_event(side)[0]
    open_result(page)
    services.allowance.pictures.record("203.0.113.45", 6)  # used up
    selected = ["mine", "test", "plain", ""]
    preview = page.event("change", updates="preview-shown")
    events = {
        "picture": (page.event("change", of="picture", updates="answer-run"), file, *CLASSIFIED),
        "several": (page.event("change", of="pictures"), None, [file], "mine", "crop", None),
        "inside": (page.event("change", updates="stages"), None, file, "mine", "crop"),
        "preview": (preview, *first_values(page, preview)),
        "surgery": (page.event("change", of="surgery-run"), "mine", {"surgery": SHOWN}),
        "each block": (page.event("click", of="surgery-each"), "mine", None),
        "figures": (page.event("change", updates="reliability"), None),
        "mistakes": (page.event("input", of="which", updates="shown-text"), "worst", *selected),
        "csv": (page.event("click", of="save-csv"), *selected),
        "zip": (page.event("click", of="save-zip"), *selected),
    }
    answers = {name: json.dumps(page.run_event(*event)[1]) for name, event in events.items()}
    free = {
        name for name, text in answers.items() if "at most 6 pictures a minute" not in text.lower()
    }
    assert not free, {name: answers[name][:300] for name in free}
    for flags in ([], ["crop", 5, "yours"], ["crop", 5, "", True], ["crop", 5, "", False, True]):
        event, answer = page.app.call("classify", file, "mine", *flags)
        assert event == "error"
        assert answer["error"].startswith("at most 6 pictures a minute may be classified")
