"""What earlier apps left in the upload folder, and what stays there."""

import os
import time

import gradio as gr
import pytest

from resnet_demo.file_locks import release_lock, try_lock
from resnet_demo.ui import uploads
from resnet_demo.ui.uploads import HOUR_S, cached_files, keep_uploads_clean, remove_old_uploads

COMPLETE = f"{'0123abcd' * 8}/photo.png"
PARTIAL = "tmp_ab12xyz"
FOREIGN = ("notes.txt", "tmpdir/a.txt", "tmp_ab12xyz0", "0123/photo.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an upload folder with a broken-off upload, a complete one, and foreign files."""
    monkeypatch.setattr(uploads.threading.Thread, "start", lambda thread: None)
    for name in (PARTIAL, COMPLETE, *FOREIGN):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    return tmp_path


def names(folder):
    """Return the files in the folder, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)) for path in files}


def test_an_app_that_starts_alone_removes_all_uploads_and_nothing_else(folder):
    keep_uploads_clean(folder, gr.Blocks())
    assert names(folder) == {*FOREIGN}
    assert not (folder / COMPLETE).parent.exists()


def test_an_app_beside_another_one_keeps_what_is_younger_than_an_hour(folder):
    lock = try_lock(folder / ".app-1.lock")
    old = time.time() - 2 * HOUR_S
    os.utime(folder / PARTIAL, (old, old))
    keep_uploads_clean(folder, gr.Blocks())
    assert names(folder) == {COMPLETE, *FOREIGN}
    release_lock(lock)


def test_every_hour_what_is_older_than_an_hour_is_removed(folder, monkeypatch):
    class Ended(Exception):
        pass

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) > 1:
            raise Ended
        os.utime(folder / PARTIAL, (0, 0))

    slept, sweeps = [], []
    monkeypatch.setattr(uploads.threading.Thread, "start", lambda self: sweeps.append(self.run))
    lock = try_lock(folder / ".app-1.lock")
    keep_uploads_clean(folder, gr.Blocks())
    monkeypatch.setattr(uploads.time, "sleep", sleep)
    with pytest.raises(Ended):
        sweeps[0]()
    assert (slept, names(folder)) == ([HOUR_S, HOUR_S], {COMPLETE, *FOREIGN})
    release_lock(lock)


def test_the_lock_file_of_an_app_that_has_ended_counts_for_nothing(folder):
    release_lock(try_lock(folder / ".app-7.lock"))
    keep_uploads_clean(folder, gr.Blocks())
    assert names(folder) == {*FOREIGN}


def test_files_that_the_page_itself_serves_stay(folder):
    with gr.Blocks() as app:
        button = gr.DownloadButton()
    button.keep_in_cache.add(str(folder / COMPLETE))
    app.temp_file_sets.append({str(folder / PARTIAL)})
    remove_old_uploads(folder, 0.0, cached_files(app))
    assert names(folder) == {PARTIAL, COMPLETE, *FOREIGN}


def test_links_are_not_followed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "mine.txt").write_text("x")
    (folder / ("f" * 64)).symlink_to(other)
    (folder / "tmp_link0000").symlink_to(other / "mine.txt")
    remove_old_uploads(folder, 0.0, ())
    assert (other / "mine.txt").exists()
