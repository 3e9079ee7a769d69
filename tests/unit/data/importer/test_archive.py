"""Reading folders, zips and tars: every hostile or torn source is refused."""

import gzip
import io
import os
import struct
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.importer.members import EMPTY_FOLDER, ArchiveLimits, LimitChecker, safe_parts
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError

KINDS = ["folder", "zip", "tar", "gz", "xz", "bz2"]
FILES = {"train/a/1.png": b"one", "train/a/2.png": b"two" * 1000, "test/a/3.png": b""}


def read(source: Path, **limits) -> dict[str, bytes]:
    members = read_members(source, ArchiveLimits(**limits))
    return {"/".join(m.parts): m.data for m in members if m.problem != EMPTY_FOLDER}


def tar_with(tmp_path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return tmp_path / "odd.tar"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_yields_the_same_files(kind: str, source_of):
    assert read(source_of(kind, FILES)) == FILES


@pytest.mark.parametrize("kind", KINDS)
def test_progress_ends_at_its_total(kind: str, source_of):
    last = list(read_members(source_of(kind, FILES)))[-1]
    assert 0 < last.done <= last.total


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_are_passed_over(kind: str, source_of):
    clutter = ["__MACOSX/a/1.png", "a/.DS_Store", ".git/x", "a/Thumbs.db", "a/._1.png"]
    clutter += ["a/@EADIR/1.png/x.jpg", "a/b/THUMBS.DB", "$Recycle.Bin/1.png", "#recycle/b/1.png"]
    clutter += ["FOUND.000/1.png", "a/@__thumb/1.png", "a/1.png~", "a/~$1.png", "b/Picasa.ini"]
    clutter += ["a/1.png:Zone.Identifier", "a/Thumbs.db:encryptable", "RECYCLED/1.png"]
    clutter += ["a/.ipynb_checkpoints/1.png", "System Volume Information/x", "LOST+FOUND/1"]
    files = {**FILES, **dict.fromkeys(clutter, b"junk")}
    assert read(source_of(kind, files)) == FILES


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_hidden_pictures_and_empty_folders_of_an_archive_are_named(kind: str, source_of, tmp_path):
    source = source_of(kind, {**FILES, ".oak/1.png": b"x", "a/.git/1.png": b"x", ".oak/x": b"x"})
    if kind == "zip":
        with zipfile.ZipFile(source, "a") as archive:
            for name in ("elm/", "elm/young/", "train/a/"):
                archive.writestr(name, b"")
    else:
        with tarfile.open(source, "a:") as archive:
            for name in ("elm", "elm/young", "train/a"):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
    problems = {"/".join(m.parts): m.problem for m in read_members(source) if m.problem}
    hidden = {".oak/1.png": "hidden, as a name begins with a dot"}
    assert problems == {**hidden, "elm": EMPTY_FOLDER, "elm/young": EMPTY_FOLDER}


def test_a_leading_dot_in_a_path_is_not_a_hidden_folder(tar_of):
    assert read(tar_of({"./a/1.png": b"x"})) == {"a/1.png": b"x"}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.png", "a/../../x.png", "a\\..\\x.png", "C:\\x.png", "\\\\host\\x"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_outside_the_archive_is_refused(kind: str, name: str, source_of):
    with pytest.raises(DamagedError, match="points outside it"):
        read(source_of(kind, {"a/1.png": b"x", name: b"y"}))


def test_names_are_cut_at_either_slash():
    assert safe_parts("./a//b\\c.png") == ("a", "b", "c.png")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes):
    info = tarfile.TarInfo("a/1.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(DamagedError, match=r"^'a/1.png' is a link or a device, not a file$"):
        read(tar_with(tmp_path, info))


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    info = zipfile.ZipInfo("a/1.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DamagedError, match="is a link or a device"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("target", ["../up.png", "/etc/passwd", "a/../../up.png", ""])
def test_a_hard_link_that_leads_out_of_a_tar_is_refused(tmp_path: Path, target: str):
    info = tarfile.TarInfo("a/2.png")
    info.type, info.linkname = tarfile.LNKTYPE, target
    with pytest.raises(DamagedError, match=r"'a/2\.png' is a link or a device"):
        read(tar_with(tmp_path, info))


def test_a_hard_link_within_a_tar_is_left_out_with_the_reason(tmp_path: Path):
    first, second = tarfile.TarInfo("top/a/1.png"), tarfile.TarInfo("top/a/2.png")
    second.type, second.linkname = tarfile.LNKTYPE, "top/a/1.png"
    members = list(read_members(tar_with(tmp_path, first, second)))
    assert [(m.parts[-1], m.problem) for m in members] == [
        ("1.png", ""),
        ("2.png", "a hard link to 'top/a/1.png'"),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "xz", "bz2"])
def test_an_archive_cut_anywhere_is_refused(kind: str, source_of):
    whole = source_of(kind, {f"a/{n}.png": os.urandom(700) for n in range(3)})
    data = whole.read_bytes()
    end = 3 * 1536 if kind == "tar" else len(data)  # a tar may lack its padding
    for length in range(8, end, 97):
        whole.write_bytes(data[:length])
        with pytest.raises((DamagedError, ConfigError)):
            read(whole)


def test_an_altered_header_is_not_taken_for_the_end(tar_of):
    path = tar_of(FILES)
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 1  # in the name of the second member
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="cut short or damaged"):
        read(path)


def test_an_altered_zip_member_is_refused(zip_of):
    noise = os.urandom(500)  # deflate stores it unchanged
    path = zip_of({"a/1.png": noise})
    altered = path.read_bytes().replace(noise, bytes([noise[0] ^ 1]) + noise[1:])
    path.write_bytes(altered)
    with pytest.raises(DamagedError, match="cut short or damaged"):
        read(path)


@pytest.mark.parametrize("data", [b"", b"a", b"not an archive at all" * 100, bytes(3), b"\x89PNG"])
def test_a_file_that_is_no_archive_is_a_mistake_in_the_request(tmp_path: Path, data: bytes):
    (tmp_path / "notes.txt").write_bytes(data)
    with pytest.raises(
        ConfigError, match=r"^'notes.txt' is not a folder, a zip or a tar of images$"
    ):
        read(tmp_path / "notes.txt")


def test_a_missing_source_is_named(tmp_path: Path):
    with pytest.raises(NotFoundError, match=r"there is no file or folder '.*gone.zip'"):
        read(tmp_path / "gone.zip")


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_apply_to_every_kind(kind: str, source_of):
    source = source_of(kind, FILES)
    with pytest.raises(DamagedError, match=r"^there are more than 2 files and folders$"):
        read(source, members=2)
    with pytest.raises(
        DamagedError, match=r"^'t(est|rain)/a.*' is a path of 1\d characters, the most is 9$"
    ):
        read(source, path_length=9)
    with pytest.raises(DamagedError, match="the paths of all files have more than 20 characters"):
        read(source, total_path_length=20)
    with pytest.raises(
        DamagedError, match=r"'train/a/2.png' has 3,000 bytes, the most for one file"
    ):
        read(source, member_bytes=2999)
    with pytest.raises(DamagedError, match="unpacks to more than 3,000 bytes"):
        read(source, total_bytes=3000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_file_that_is_no_picture_is_left_out(kind: str, source_of):
    source = source_of(kind, {"a/1.png": b"x", "a/film.mp4": bytes(100)})
    members = list(read_members(source, ArchiveLimits(member_bytes=50)))
    assert [(m.parts[-1], m.data, m.problem) for m in members] == [
        ("1.png", b"x", ""),
        ("film.mp4", b"", "100 bytes, the most for one file is 50"),
    ]


def test_a_zip_bomb_is_refused_by_its_ratio(zip_of):
    source = zip_of({"a/1.png": bytes(5_000_000)})
    with pytest.raises(
        DamagedError, match=r"^'a/1.png' unpacks to more than 1,000 times its size$"
    ):
        read(source)


def test_a_zip_member_with_a_wrong_size_is_refused(zip_of):
    source = zip_of({"a/1.png": b"x" * 100_000})
    data = source.read_bytes().replace(struct.pack("<L", 100_000), struct.pack("<L", 5))
    source.write_bytes(data)
    with pytest.raises(DamagedError, match="cut short or damaged"):  # its checksum differs
        read(source)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_methods_without_a_memory_bound_are_refused(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a/1.png", "x")
    with pytest.raises(DamagedError, match="compressed by a method other than deflate"):
        read(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(zip_of):
    source = zip_of({"a/1.png": b"x"})
    data = bytearray(source.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    source.write_bytes(data)
    with pytest.raises(DamagedError, match=r"^'a/1.png' is encrypted$"):
        read(source)


def test_a_tar_of_huge_attributes_is_refused_before_they_are_read(tmp_path: Path):
    info = tarfile.TarInfo("a/1.png")
    info.type, info.size = tarfile.XHDTYPE, 10**6
    first = tarfile.TarInfo("a/0.png")
    with pytest.raises(DamagedError, match="cut short or damaged"):
        read(tar_with(tmp_path, first, info))


def test_a_negative_size_does_not_hang_the_reading(tmp_path: Path):
    path = tar_with(tmp_path, tarfile.TarInfo("a/0.png"), tarfile.TarInfo("a/1.png"))
    data = bytearray(path.read_bytes())
    data[512 + 124 : 512 + 136] = b"\xff" * 12  # minus one, in base 256
    data[512 + 148 : 512 + 156] = b" " * 8
    data[512 + 148 : 512 + 156] = b"%06o\0 " % sum(data[512:1024])
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="cut short or damaged"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_are_counted_but_may_have_any_size(kind: str, source_of):
    source = source_of(kind, {"a/1.png": b"x", **dict.fromkeys([".b", ".c", ".d"], bytes(500))})
    assert read(source, member_bytes=1) == {"a/1.png": b"x"}
    with pytest.raises(DamagedError, match="more than 3 files"):
        read(source, members=3)


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_empty_files_and_folders_are_limited(kind: str, source_of):
    source = source_of(kind, {"a/1.png": b"x", "a/2.png": b"", "a/3.png": b"", ".a": b""})
    assert len(read(source, empty_members=3)) == 3
    with pytest.raises(DamagedError, match=r"^there are more than 2 empty files and folders$"):
        read(source, empty_members=2)


def write_zip_of_a_million(path: Path, declared: int) -> Path:
    """Write a zip64 of a million equal empty members whose record declares another number."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"e"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *[0] * 7, 1, *[0] * 6) + b"e"
    table = entry * 1_000_000
    start, end = len(local), len(local) + len(table)
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, declared, declared, len(table), start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(local + table + end64 + locator + last)
    return path


@pytest.mark.parametrize("declared", [1_000_000, 1])
def test_a_zip_of_a_million_empty_members_is_refused_before_they_are_listed(tmp_path, declared):
    source = write_zip_of_a_million(tmp_path / "a.zip", declared)
    tracemalloc.start()
    with pytest.raises(DamagedError, match=r"^there are more than 250,000 files and folders$"):
        read(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # the table itself takes 47 MiB


def test_a_zip_whose_table_of_contents_is_huge_is_refused_before_it_is_read(zip_of, monkeypatch):
    source = zip_of(FILES)
    monkeypatch.setattr("resnet_demo.data.importer.zip.MAX_TABLE_BYTES", 100)
    with pytest.raises(DamagedError, match=r"^its table of contents has more than 100 bytes$"):
        read(source)


def test_a_zip_in_a_zip_is_an_ordinary_file(tmp_path: Path):
    inner = b"PK\1\2" * 1000
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/inner.zip", inner)  # stored uncompressed
    assert read(tmp_path / "a.zip", members=2) == {"a/inner.zip": inner}


def test_a_tar_of_a_million_empty_members_is_refused_while_it_is_read(tmp_path: Path):
    headers = tarfile.TarInfo("a/e").tobuf() * 1000
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(headers) * 1000)  # concatenated streams
    with pytest.raises(DamagedError, match=r"^there are more than 25,000 empty files and folders$"):
        read(tmp_path / "a.tar.gz")


def test_too_many_files_are_refused():
    checker = LimitChecker(ArchiveLimits())
    for _ in range(250_000):
        checker.add_member("a/1.png", 1)
    with pytest.raises(DamagedError, match=r"^there are more than 250,000 files and folders$"):
        checker.add_member("a/1.png", 1)


def test_a_file_without_a_name_is_passed_over(zip_of, tar_of):
    assert read(tar_of({".": b"x", **FILES})) == FILES
    source = zip_of({"nameless": b"x", **FILES})
    source.write_bytes(source.read_bytes().replace(b"nameless", bytes(8)))  # NUL ends a name
    assert read(source) == FILES


def test_a_tar_with_many_global_attributes_is_refused(tmp_path: Path):
    for kind, count in ((tarfile.XGLTYPE, 200), (tarfile.XGLTYPE, 50)):
        records = b"".join(b"%d a%03d=b\n" % (len(b"10 a000=b\n"), n) for n in range(count))
        info = tarfile.TarInfo("attributes")
        info.type, info.size = kind, len(records)
        end = tarfile.TarInfo("a/1.png").tobuf() + bytes(1024)
        padding = bytes(-len(records) % 512)
        (tmp_path / "a.tar").write_bytes(info.tobuf() + records + padding + end)
        if count < 100:
            assert read(tmp_path / "a.tar") == {"a/1.png": b""}
            continue
        with pytest.raises(DamagedError, match="cut short or damaged"):
            read(tmp_path / "a.tar")


ODD = [
    "ein Hund/1 a.png",
    "🐕‍🦺 & 👨‍👩‍👧/ü.png",
    'it\'s "quoted"/$(x) `y`.png',
    "日本語　犬/1.png",
    "né/e\u0301.png",
]


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_kept_unchanged(kind: str, source_of):
    files = {name: str(number).encode() for number, name in enumerate(ODD)}
    assert read(source_of(kind, files)) == files


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (b"n\x82/1.png", "né/1.png"),  # cp437, the standard's encoding without the flag
        ("né/1.png".encode(), "né/1.png"),  # UTF-8, as many programs write them
        (b"n\x82\xff/1.png", "né\xa0/1.png"),
    ],
)
def test_zip_names_without_the_utf8_flag_are_decoded(zip_of, stored: bytes, seen: str):
    source = zip_of({"x" * len(stored): b"1"})
    source.write_bytes(source.read_bytes().replace(b"x" * len(stored), stored))
    assert read(source) == {seen: b"1"}


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_names_with_line_ends_nul_or_excessive_length_are_handled(kind, source_of):
    assert read(source_of(kind, {"a/1\n2.png": b"x"})) == {"a/1\n2.png": b"x"}
    [name] = read(source_of(kind, {"a/1\0.png": b"x"}))
    assert name in ("a/1", "a/1\0.png")  # zip and tar end a name at NUL
    with pytest.raises(DamagedError, match=r"^'a/xxx.*…? is a path of 5,002 characters, the most"):
        read(source_of(kind, {"a/" + "x" * 5000: b"x"}))


@pytest.mark.parametrize("kind", ["tar", "xz"])
def test_no_thread_outlives_the_reading(kind: str, source_of):
    before = threading.active_count()
    source = source_of(kind, {f"a/{n}": bytes(100_000) for n in range(100)})
    with closing(read_members(source)) as members:
        next(members)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(DamagedError):
        read(source)
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_a_torn_archive_yields_its_first_files_and_then_the_error(kind: str, source_of):
    files = {f"a/{n}": os.urandom(20_000) for n in range(60)}
    source, got = source_of(kind, files), []
    source.write_bytes(source.read_bytes()[:1_000_000])
    with pytest.raises(DamagedError, match="cut short or damaged"):
        got.extend(member.data for member in read_members(source))
    assert got == list(files.values())[: len(got)]
    assert len(got) > 20


def test_the_unicode_path_field_of_a_zip_names_the_member(tmp_path):
    def named(checksum: int) -> str:
        old = b"b?ume/1.png"
        field = b"\1" + struct.pack("<L", checksum) + "bäume/1.png".encode()
        info = zipfile.ZipInfo(old.decode())
        info.extra = struct.pack("<HH", 0x7075, len(field)) + field
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(info, b"picture")
        (member,) = read_members(tmp_path / "a.zip")
        return "/".join(member.parts)

    right = zlib.crc32(b"b?ume/1.png")
    assert named(right) == "bäume/1.png"
    assert named(right ^ 1) == "b?ume/1.png"  # the field is about another name


def test_a_colon_is_part_of_a_name_unless_it_names_a_drive():
    assert safe_parts("a: b/c:1.png") == ("a: b", "c:1.png")
    for name in ("C:/x.png", "c:\\x.png", "D:"):
        with pytest.raises(DamagedError, match="points outside"):
            safe_parts(name)
