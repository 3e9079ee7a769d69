"""Getting CIFAR-10 from one source after another: good ones, bad ones, stops and full disks."""

import io
import multiprocessing
import pickle
import re
import socket
import sys
import tarfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_demo.data.cifar10 import get as getting
from resnet_demo.data.cifar10 import original_batches as cifar
from resnet_demo.data.cifar10 import parquet
from resnet_demo.data.cifar10.get import Source, cifar10_sources, get_cifar10
from resnet_demo.data.download import DownloadProgress, DownloadTimeouts, RemoteFile
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DemoError, StoppedError
from resnet_demo.paths import Paths
from tests.faults import file_size_limit
from tests.loopback import (
    Loopback,
    never_answer,
    respond,
    respond_with_web_page,
    serve,
    serve_chunked,
    serve_slowly,
    stall_after,
)

HASH = "0123456789abcdef" * 4
ORIGINAL = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
EASY = DownloadTimeouts(slow_bytes_per_s=0, pause_s=0.01)  # a busy machine is slow
QUICK = DownloadTimeouts(slow_s=0.4, slow_bytes_per_s=50_000)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 3072), dtype=np.uint8)
LABELS = [0, 1, 2, 3, 4, 9]


def copy_of(text: str) -> Source:
    return cifar10_sources(text)[0]


def test_the_sources_are_hugging_face_then_zenodo_then_the_home_server():
    face, zenodo, home = cifar10_sources(None)
    assert [source.name for source in (face, zenodo, home)] == [
        "Hugging Face",
        "Zenodo",
        "the CIFAR-10 home server",
    ]
    assert (face.kind, zenodo.kind, home.kind) == ("parquet", "archive", "archive")
    assert [file.size for file in face.files] == [119_705_255, 23_940_850]
    assert [file.name.split("-")[0] for file in face.files] == ["train", "test"]
    for source in (zenodo, home):
        assert [(file.size, file.sha256) for file in source.files] == [(170_498_071, ORIGINAL)]


def test_every_file_is_pinned_by_its_checksum_and_comes_over_https():
    files = [file for source in cifar10_sources(None) for file in source.files]
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert all(file.url.startswith("https://") for file in files)
    assert all("/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/" in f.url for f in files[:2])


def test_the_same_bytes_of_two_sources_share_one_part_file():
    _, zenodo, home = cifar10_sources(None)
    assert zenodo.files[0].part_name == home.files[0].part_name == f"{ORIGINAL}.part"


def test_a_copy_comes_first_and_must_be_the_original_archive():
    sources = cifar10_sources("http://user:secret@my.example:8080/some.tgz?token=1")
    assert len(sources) == 4
    assert sources[0].name == "your copy on my.example"  # no password, no token
    [remote] = sources[0].files
    assert remote.url == "http://user:secret@my.example:8080/some.tgz?token=1"
    assert (remote.size, remote.sha256) == (170_498_071, ORIGINAL)


def test_a_copy_with_a_checksum_may_be_any_archive():
    [remote] = copy_of(f"https://my.example/a/cifar.tar.xz?x=1#sha256={HASH.upper()}").files
    assert remote == RemoteFile("https://my.example/a/cifar.tar.xz?x=1", "cifar.tar.xz", None, HASH)


@pytest.mark.parametrize("text", ["/a/cifar.tar.xz", "/a/b#c.zip", "/a/http:"])
def test_a_path_is_a_copy_on_this_machine(text):
    source = copy_of(text)
    assert (source.path, source.files) == (Path(text), ())
    assert source.name == f"your copy {Path(text).name}"


def test_a_path_may_begin_at_home_or_here():
    assert copy_of("~/x").path == Path.home() / "x"
    assert copy_of("x").path == Path.cwd() / "x"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://my.example/x",
        "file:///x",
        "https://",
        "https:///x",
        "http://a b/",
        "http://a:x/",
        "http://[::1/x",
        "http://a/\tb",
        "HTTPS+x://a/",
    ],
)
def test_an_address_other_than_http_is_a_mistake(text):
    rule = "RESNET_DEMO_CIFAR10 must be an address that begins with https:// or http://, or a path"
    with pytest.raises(ConfigError, match=f"^{rule}, got ") as caught:
        cifar10_sources(text)
    assert caught.value.field == "RESNET_DEMO_CIFAR10"


@pytest.mark.parametrize("end", ["md5=0", "sha256=", f"sha256={HASH[1:]}", f"sha256={HASH}0", "x"])
def test_an_invalid_checksum_is_a_mistake(end):
    rule = (
        "RESNET_DEMO_CIFAR10 must be an address with nothing after #, or sha256= and 64 hex digits"
    )
    with pytest.raises(ConfigError, match=f"^{rule}, got "):
        cifar10_sources(f"https://my.example/x#{end}")


def test_a_mistake_in_an_address_never_shows_its_password():
    with pytest.raises(ConfigError) as caught:
        cifar10_sources("ftp://user:secret@my.example/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("text", "copy"), [("/a/x.zip", "/a/x.zip"), ("", None), (None, None)])
def test_the_environment_names_the_copy(monkeypatch, text, copy):
    monkeypatch.delenv("RESNET_DEMO_CIFAR10", raising=False)
    if text is not None:
        monkeypatch.setenv("RESNET_DEMO_CIFAR10", text)
    assert Paths.from_environment().cifar10_copy == copy


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def original(classes=cifar.CLASSES) -> bytes:
    """Return an archive like the original one, with six images per batch."""
    names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    values = {name: {b"data": PIXELS[n], b"labels": LABELS} for n, name in enumerate(names)}
    values["batches.meta"] = {b"label_names": [name.encode() for name in classes]}
    return tar_of({f"{cifar.FOLDER}/{n}": pickle.dumps(v, 2) for n, v in values.items()})


def pictures(classes) -> bytes:
    """Return an archive of class folders, each with two training images and one test image."""
    files = {}
    for label in classes:
        for name in ("train/{}/0", "train/{}/1", "test/{}/0"):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (len(files), 0, 0)).save(file, "PNG")
            files[name.format(label) + ".png"] = file.getvalue()
    return tar_of(files)


ARCHIVE = original()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def get(root: Path, *sources: Source, timeouts=EASY, **options):
    return get_cifar10(root, sources, timeouts=timeouts, **options)


def refusal(root: Path, *sources: Source, **options) -> str:
    with pytest.raises(DemoError) as caught:
        get(root, *sources, **options)
    return str(caught.value)


def parts_left(root: Path) -> dict[str, bytes]:
    """Check that a failure left part files at most; return name -> content."""
    assert [info.name for info in Datasets(root).list()] == ["shapes10"]
    folders = [path.name for path in root.iterdir()]
    assert folders in ([], [".downloads"])
    return {path.name: path.read_bytes() for path in root.glob(".downloads/*")}


def assert_is_the_original(root: Path) -> None:
    images, labels = Datasets(root).load("cifar10", "train")
    planes = PIXELS[:5].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(images, planes.transpose(0, 2, 3, 1))
    assert labels.tolist() == LABELS * 5
    assert [path.name for path in root.iterdir()] == ["cifar10"]
    assert len(list((root / "cifar10").iterdir())) == 7


def test_a_download_becomes_the_dataset_and_nothing_else_is_left(loopback, root):
    info = get(root, Source("Zenodo", (loopback.offer(ARCHIVE),)))
    assert info == Datasets(root).get("cifar10")
    assert info.source == "the original CIFAR-10 batches, in their own order, from Zenodo"
    assert_is_the_original(root)


BAD = {
    "it sent nothing for 0.4 s": never_answer,
    "it was slower than 50 kB/s for 0.4 s": serve_slowly(ARCHIVE),
    "the connection broke": serve(ARCHIVE, 0),
    "it answered 503 Service Unavailable": respond(503),
    "it sent a web page instead of the file": respond_with_web_page,
    "it sent other bytes than expected: the checksum is wrong": serve(bytes(len(ARCHIVE))),
    "it redirects to an address without https, which is refused": respond(
        302, Location="http://127.0.0.1:1/"
    ),
    "it does not say how long the file is": serve_chunked(ARCHIVE),
}


@pytest.mark.parametrize("failure", BAD)
def test_a_bad_source_leaves_no_dataset_and_the_next_one_is_tried(loopback, root, failure):
    bad = Source("Bad", (loopback.offer(ARCHIVE, BAD[failure]),))
    message = refusal(root, bad, timeouts=QUICK)
    assert f"Tried: Bad ({failure}). What you can do: " in message
    parts = parts_left(root)
    assert all(0 < len(data) < len(ARCHIVE) and ARCHIVE.startswith(data) for data in parts.values())
    assert message.endswith("and the next try continues it.") == bool(parts)
    assert bool(parts) == ("slower" in failure)
    good = Source("Good", (loopback.offer(ARCHIVE, path="/good"),))
    assert get(root, bad, good, timeouts=QUICK).source.endswith("from Good")
    assert_is_the_original(root)


def test_the_message_names_every_source_and_three_ways_to_continue(loopback, root):
    sources = [
        Source("your copy x", path=root / "x"),
        Source("Hugging Face", (loopback.offer(b"x", respond(503), path="/1"),)),
        Source("Zenodo", (loopback.offer(b"x", respond_with_web_page, path="/2"),)),
    ]
    message = refusal(root, *sources)
    assert message == (
        "CIFAR-10 could not be downloaded. Tried: "
        f"your copy x (there is no file or folder '{root / 'x'}'); "
        "Hugging Face (it answered 503 Service Unavailable); "
        "Zenodo (it sent a web page instead of the file). "
        "What you can do: import your own copy "
        "(on the Data tab, or with `python -m resnet_demo data import cifar10 PATH`), "
        "set RESNET_DEMO_CIFAR10 to the address or path of a copy and try again, "
        "or use the built-in shapes10."
    )


def test_the_next_source_of_the_same_bytes_continues_the_download(loopback, root):
    first = Source("First", (loopback.offer(ARCHIVE, stall_after(ARCHIVE, 70_000), path="/1"),))
    second = Source("Second", (loopback.offer(ARCHIVE, path="/2"),))
    get(root, first, second, timeouts=QUICK)
    assert loopback.requests == [("/1", ""), ("/2", "bytes=70000-")]
    assert_is_the_original(root)


def test_progress_reports_source_bytes_rate_and_the_end(loopback, root):
    reports: list[DownloadProgress] = []
    bad = Source("Bad", (loopback.offer(ARCHIVE, respond(503), path="/1"),))
    slow = serve_slowly(ARCHIVE, 0.05, len(ARCHIVE) // 15)
    start = time.monotonic()
    get(root, bad, Source("Zenodo", (loopback.offer(ARCHIVE, slow),)), report=reports.append)
    seconds = time.monotonic() - start
    messages = list(dict.fromkeys(now.message for now in reports))
    assert messages == [
        "downloading from Bad",
        "Bad failed: it answered 503 Service Unavailable",
        "downloading from Zenodo",
        "importing from Zenodo",
    ]
    downloading = [now for now in reports if now.message == messages[2]]
    assert {(now.source, now.unit, now.total) for now in downloading} == {
        ("Zenodo", "bytes", len(ARCHIVE))
    }
    assert (downloading[0].done, downloading[-1].done) == (0, len(ARCHIVE))
    middle = next(now for now in downloading if 0 < now.done < now.total)
    assert len(ARCHIVE) / 5 < middle.rate < len(ARCHIVE) / 0.3  # it takes 0.75 s, or a little more
    assert len(downloading) <= 3 + seconds / 0.35
    assert (reports[-1].done, reports[-1].total, reports[-1].unit) == (6, 6, "batches")


def test_stopping_keeps_the_received_part_and_the_next_attempt_continues_it(loopback, root):
    source = Source(
        "Zenodo", (loopback.offer(ARCHIVE, stall_after(ARCHIVE, 70_000), serve(ARCHIVE)),)
    )
    received, checks = [], []

    def should_stop() -> bool:
        checks.append(time.monotonic())
        return bool(received)

    def report(now: DownloadProgress) -> None:
        received.extend([now] if now.done == 70_000 else [])

    with pytest.raises(StoppedError, match=r"^stopped; the downloaded part is kept"):
        get(root, source, should_stop=should_stop, report=report)
    assert time.monotonic() - checks[-1] < 0.5
    assert list(parts_left(root).values()) == [ARCHIVE[:70_000]]
    get(root, source)
    assert loopback.ranges() == ["", "bytes=70000-"]
    assert_is_the_original(root)


def test_stopping_while_unpacking_keeps_the_archive(loopback, root):
    source, unpacking = Source("Zenodo", (loopback.offer(ARCHIVE),)), []

    def report(now: DownloadProgress) -> None:
        unpacking.extend([now] if now.unit == "batches" else [])

    with pytest.raises(StoppedError):
        get(root, source, report=report, should_stop=lambda: bool(unpacking))
    assert list(parts_left(root).values()) == [ARCHIVE]
    get(root, source)
    assert loopback.ranges() == [""]  # nothing is downloaded twice
    assert_is_the_original(root)


def test_a_stop_before_the_start_sends_no_request(loopback, root):
    with pytest.raises(StoppedError):
        get(root, Source("Zenodo", (loopback.offer(ARCHIVE),)), should_stop=lambda: True)
    assert loopback.requests == []
    assert parts_left(root) == {}


def test_an_existing_dataset_is_not_downloaded_again(loopback, root):
    source = Source("Zenodo", (loopback.offer(ARCHIVE),))
    get(root, source)
    loopback.requests.clear()
    with pytest.raises(ConfigError, match=r"^there is already a dataset named 'cifar10'$"):
        get(root, source)
    assert loopback.requests == []
    assert_is_the_original(root)


def test_a_folder_with_other_files_is_refused_before_the_download(loopback, root):
    (root / "cifar10").mkdir(parents=True)
    (root / "cifar10/mine.png").touch()
    assert "holds other files" in refusal(root, Source("Zenodo", (loopback.offer(ARCHIVE),)))
    assert loopback.requests == []
    assert [path.name for path in root.iterdir()] == ["cifar10"]


def test_a_read_only_place_is_refused_before_the_download(loopback, root):
    root.write_bytes(b"")
    message = refusal(root, Source("Zenodo", (loopback.offer(ARCHIVE),)))
    assert message == f"cannot write to {root}: Not a directory"
    assert loopback.requests == []


def test_an_archive_in_the_data_folder_is_used_first(loopback, root):
    root.mkdir()
    (root / cifar.ARCHIVE).write_bytes(ARCHIVE)
    get(root, Source("Zenodo", (loopback.offer(ARCHIVE),)))
    assert loopback.requests == []
    assert Datasets(root).get("cifar10").train == 30


def test_a_torn_archive_in_the_data_folder_is_skipped(loopback, root):
    root.mkdir()
    (root / cifar.ARCHIVE).write_bytes(ARCHIVE[:1000])
    get(root, Source("Zenodo", (loopback.offer(ARCHIVE),)))
    assert Datasets(root).get("cifar10").source.endswith("from Zenodo")


@pytest.mark.parametrize("packed", [ARCHIVE, pictures(cifar.CLASSES)])
def test_a_copy_on_this_machine_is_imported_and_kept(root, tmp_path, packed):
    copy = tmp_path / "copy.tar.gz"
    copy.write_bytes(packed)
    info = get(root, Source("your copy", path=copy))
    assert info.classes == cifar.CLASSES
    assert copy.read_bytes() == packed
    assert [path.name for path in root.iterdir()] == ["cifar10"]


def test_a_copy_of_pictures_from_a_server_is_imported_under_its_own_name(loopback, root):
    data = pictures(cifar.CLASSES)
    remote = loopback.offer(data, size=None, path="/mine.tar.gz")
    info = get(root, Source("your copy on x", (remote,)))
    assert (info.train, info.test) == (20, 10)
    assert info.source == "imported from mine.tar.gz, from your copy on x"
    assert [path.name for path in root.iterdir()] == ["cifar10"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pictures("ab"), "it holds other classes than CIFAR-10"),
        (original(cifar.CLASSES[::-1]), "it holds other classes than CIFAR-10"),
        (b"junk", "mine is not a folder, a zip or a tar of images"),
        (ARCHIVE[:-500], "mine is cut short or damaged"),
        (tar_of({"a/1.png": b"", "b/2.png": b""}), "2 of 2 pictures cannot be read"),
    ],
)
def test_an_archive_of_something_else_never_becomes_cifar10(loopback, root, data, reason):
    remote = loopback.offer(data, size=None, path="/mine")
    message = refusal(root, Source("your copy", (remote,)))
    assert reason.replace("mine", "'mine'") in message
    assert parts_left(root) == {}


def test_a_hostile_pickle_is_refused_without_running_it(loopback, root):
    hostile = b"cos\nsystem\n(S'exit 1'\ntR."
    data = tar_of({f"{cifar.FOLDER}/data_batch_1": hostile})
    message = refusal(root, Source("your copy", (loopback.offer(data),)))
    assert "data_batch_1 is refused: it uses 'os.system'" in message
    assert parts_left(root) == {}


def small_parquet(folder: Path) -> tuple[bytes, bytes]:
    """Return train and test in the schema of Hugging Face."""
    files = []
    for count in (12, 5):
        images = []
        for n in range(count):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (n, count, 0)).save(file, "PNG")
            images.append({"bytes": file.getvalue(), "path": ""})
        table = pa.table({"img": images, "label": [n % 10 for n in range(count)]})
        pq.write_table(table, folder / "x.parquet")
        files.append((folder / "x.parquet").read_bytes())
    return files[0], files[1]


def parquet_source(loopback: Loopback, folder: Path) -> Source:
    train, test = small_parquet(folder)
    files = loopback.offer(train, path="/train"), loopback.offer(test, path="/test")
    return Source("Hugging Face", files, "parquet")


def test_the_parquet_files_become_the_dataset(loopback, root, tmp_path):
    reports: list[DownloadProgress] = []
    info = get(root, parquet_source(loopback, tmp_path), report=reports.append)
    assert (info.train, info.test, info.classes) == (12, 5, cifar.CLASSES)
    assert info.source == f"{parquet.OTHER_ORDER_SOURCE}, from Hugging Face"
    images, labels = Datasets(root).load("cifar10", "train")
    assert images[:, 0, 0].tolist() == [[n, 12, 0] for n in range(12)]
    assert labels.tolist() == [n % 10 for n in range(12)]
    assert [path.name for path in root.iterdir()] == ["cifar10"]
    sizes = sum(map(len, small_parquet(tmp_path)))
    downloading = [now for now in reports if now.unit == "bytes"]
    assert {now.total for now in downloading} == {sizes}
    assert [now.done for now in downloading] == sorted(now.done for now in downloading)
    assert downloading[-1].done == sizes
    assert (reports[-1].done, reports[-1].total, reports[-1].unit) == (17, 17, "pictures")


def test_a_complete_parquet_file_is_kept_for_the_next_attempt(loopback, root, tmp_path):
    source = parquet_source(loopback, tmp_path)
    loopback.handlers["/test"].insert(0, respond(503))
    assert "the next try continues it" in refusal(root, source)
    assert list(parts_left(root)) == [source.files[0].part_name]
    get(root, source)
    assert [path for path, _ in loopback.requests] == ["/train", "/test", "/test"]


def test_without_pyarrow_its_source_says_how_to_install_it_and_sends_no_request(
    loopback, root, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refusal(root, parquet_source(loopback, tmp_path))
    assert "Hugging Face (reading its files needs pyarrow: `pip install pyarrow` in" in message
    assert loopback.requests == []


def test_a_full_disk_is_refused_before_the_download(loopback, root, monkeypatch):
    usage = getting.shutil.disk_usage(root.parent)
    monkeypatch.setattr(getting.shutil, "disk_usage", lambda path: usage._replace(free=10**7))
    remote = replace(loopback.offer(ARCHIVE), size=170_498_071)
    message = refusal(root, Source("Zenodo", (remote,)), Source("Home", (remote,)))
    assert message == f"disk full: 371 MB needed for CIFAR-10 in {root}, 10 MB free"
    assert loopback.requests == []
    assert parts_left(root) == {}


def test_a_disk_that_fills_during_the_download_ends_it_and_keeps_the_part(loopback, root):
    first = Source("First", (loopback.offer(ARCHIVE, path="/1"),))
    second = Source("Second", (loopback.offer(ARCHIVE, path="/2"),))
    with file_size_limit(50_000):
        assert refusal(root, first, second).startswith("disk full: 201 MB needed for CIFAR-10")
    assert loopback.requests == [("/1", "")]  # another source needs the same space
    [received] = parts_left(root).values()
    assert 0 < len(received) <= 50_000
    get(root, first)
    assert loopback.requests[1:] == [("/1", f"bytes={len(received)}-")]
    assert_is_the_original(root)


def test_a_disk_that_fills_during_unpacking_ends_it_and_keeps_the_archive(loopback, root):
    dark = PIXELS[0] * 0  # compresses well: the archive is smaller than the images
    batch = pickle.dumps({b"data": dark, b"labels": LABELS}, 2)
    names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    data = tar_of({f"{cifar.FOLDER}/{name}": batch for name in names})
    first = Source("First", (loopback.offer(data, path="/1"),))
    second = Source("Second", (loopback.offer(data, path="/2"),))
    with file_size_limit(50_000):
        assert refusal(root, first, second).startswith("disk full: 200 MB needed for CIFAR-10")
    assert list(parts_left(root).values()) == [data]
    get(root, first)
    assert loopback.requests == [("/1", "")]


def test_another_disk_error_ends_it_with_the_kernels_message(root, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(getting, "download", fail)
    remote = RemoteFile("https://zenodo.example/x", "x", 1, "0")
    message = refusal(root, Source("Zenodo", (remote,)), Source("Home", (remote,)))
    assert message == f"the dataset could not be written to {root}: Input/output error"
    assert parts_left(root) == {}


def hold(root: Path, url: str, started) -> None:
    """Download in another process, and set `started` with the first byte."""
    source = Source("Slow", (RemoteFile(url, "x", len(ARCHIVE), sha256(ARCHIVE).hexdigest()),))
    get_cifar10(root, [source], report=lambda now: now.done and started.set())


def test_two_processes_never_download_at_once(loopback, root):
    remote = loopback.offer(ARCHIVE, stall_after(ARCHIVE, 70_000), serve(ARCHIVE))
    started = multiprocessing.Event()
    other = multiprocessing.get_context("fork").Process(
        target=hold, args=(root, remote.url, started), daemon=True
    )
    other.start()
    try:
        assert started.wait(5)
        message = refusal(root, Source("Zenodo", (remote,)))
        assert message == "another process is downloading CIFAR-10"
        assert len(loopback.requests) == 1
    finally:
        other.kill()
        other.join()
    get(root, Source("Zenodo", (remote,)))  # a kill releases the lock and the part is used
    assert loopback.ranges() == ["", "bytes=70000-"]
    assert_is_the_original(root)


def test_without_a_network_the_message_says_so(root, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    sources = [Source("Zenodo", (RemoteFile("https://zenodo.example/x", "x", 1, "0"),))]
    assert "Zenodo (its host name was not found: is this machine online?)" in refusal(
        root, *sources
    )
    assert parts_left(root) == {}
