"""What a browser loads: compressed pages, one style sheet, files that are kept."""

import re

import httpx
import pytest

from resnet_demo.paths import Paths
from resnet_demo.ui.app import build_app, launch
from resnet_demo.ui.front_end import FRONT_END, KEEP_STREAMS, PAGE, FrontEnd
from tests.conftest import free_port

ASSETS = FRONT_END / "assets"
KINDS = ("markdown", "button", "gallery", "accordion", "image", "tabitem", "api")


@pytest.fixture(scope="module")
def client(tmp_path_factory, colours):
    """Return a client of an app in this process."""
    root = tmp_path_factory.mktemp("light")
    page = build_app(Paths(root / "runs", colours, root / "shipped"))
    _, url, _ = launch(page, server_port=free_port(), prevent_thread_lock=True, quiet=True)
    with httpx.Client(base_url=url, timeout=60, verify=False) as client:
        yield client
    page.close()


def test_the_styles_of_all_kinds_of_components_are_one_file():
    front_end = FrontEnd(KINDS)
    assert len(front_end.names) > 15
    for name in front_end.names:
        assert (ASSETS / name).read_text() in front_end.styles
        assert f'href="./assets/{name}" disabled' in front_end.head
    assert not re.search(r"url\((?!['\"]?data:)", front_end.styles)  # it would lead elsewhere


def test_an_unknown_version_of_gradio_loads_its_styles_one_by_one(tmp_path):
    (tmp_path / "assets").mkdir()
    for page in ("", '<script src="./assets/index-a.js">'):
        (tmp_path / "index.html").write_text(page)
        assert FrontEnd(KINDS, tmp_path).head == KEEP_STREAMS
        (tmp_path / "assets" / "index-a.js").write_text("import(`./Index-b.js`)")


def test_the_page_is_compressed_and_names_the_style_sheet(client):
    answer = client.get(PAGE)
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert int(answer.headers["content-length"]) * 4 < len(answer.content)
    [sheet] = re.findall(r'href="\.(/component-styles\.css\?v=\w+)"', answer.text)
    styles = client.get(sheet)
    assert styles.headers["content-type"].startswith("text/css")
    assert "immutable" in styles.headers["cache-control"]
    plain = client.get(PAGE, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert int(plain.headers["content-length"]) == len(plain.content)
    assert plain.text.count("</head>") == 1
    assert client.head(PAGE).status_code == 200
    for path in ("/config", "/gradio_api/info"):
        assert client.get(path).headers["content-encoding"] == "gzip"


def test_files_with_a_hash_in_their_name_are_kept_and_others_are_not(client):
    name = next(ASSETS.glob("index-*.js")).name
    assert "immutable" in client.get(f"/assets/{name}").headers["cache-control"]
    for path in (PAGE, "/assets/none.js", "/favicon.ico"):
        assert "immutable" not in client.get(path).headers.get("cache-control", "")


def test_events_arrive_one_by_one_and_are_not_compressed(client):
    config = client.get("/config").json()
    loads = [one for one in config["dependencies"] if "load" in str(one["targets"])]
    body = {"data": [], "fn_index": loads[0]["id"], "session_hash": "light"}
    assert client.post("/gradio_api/queue/join", json=body).is_success
    with client.stream("GET", "/gradio_api/queue/data?session_hash=light") as stream:
        assert "content-encoding" not in stream.headers
        assert any("process_completed" in line for line in stream.iter_lines())
