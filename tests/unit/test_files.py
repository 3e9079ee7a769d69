"""Atomic writes and digests."""

import errno
import hashlib
import os

import pytest

from resnet_demo import files
from resnet_demo.files import sha256_of, write_atomically


def test_content_is_bytes_or_a_function_that_writes(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "b", lambda file: file.write(b"two"))
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"two"
    assert names(tmp_path) == ["a", "b"]


def test_an_existing_file_is_replaced(tmp_path):
    write_atomically(tmp_path / "a", b"a long old text")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, error):
    def write_half(file):
        file.write(b"half of the n")
        raise error

    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "a", write_half)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_error_after_the_write_leaves_the_old_file_too(tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr(files.os, step, refuse)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_the_content_is_flushed_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (done.append("fsync"), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a", b"new")
    assert done == ["fsync", "replace", "fsync"]


def test_sha256_is_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def names(folder):
    return sorted(os.listdir(folder))


def refusing(code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_a_disk_that_cannot_flush_folders_is_used_and_logged_once(
    code, tmp_path, monkeypatch, caplog
):
    files.warn_once.cache_clear()
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            refusing(code)()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for content in (b"one", b"two"):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [record.getMessage() for record in caplog.records] == [files.NO_FOLDER_SYNC]


def test_a_fault_of_the_disk_is_no_missing_feature(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_folder(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_without_hard_links_a_file_is_copied(code, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content")
    monkeypatch.setattr(os, "link", refusing(code))
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_files_are_opened(make, tmp_path):
    make(tmp_path / "odd")
    for append in (False, True):
        with pytest.raises(OSError, match="not a file"):
            files.open_file(tmp_path / "odd", append)
    reader = os.open(tmp_path / "odd", os.O_RDONLY | os.O_NONBLOCK)  # a pipe can be written to now
    try:
        with pytest.raises(OSError, match="not a file"):
            files.open_file(tmp_path / "odd", append=True)
    finally:
        os.close(reader)


def test_a_file_is_made_or_continued_by_appending(tmp_path):
    for _ in range(2):
        with files.open_file(tmp_path / "log", append=True) as file:
            file.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"line\n" * 2
