"""The files inside a source of images, the rules for their names, and the limits of a source."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from resnet_demo.errors import DamagedError, shortened

# What operating systems, file managers, network disks and notebooks leave behind, in small letters:
# files and folders of any depth, besides names that start with a dot.
CLUTTER = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "picasa.ini",
    "desktop.ini",
    "icon\r",
    "$recycle.bin",
    "recycler",
    "recycled",
    "system volume information",
    "lost+found",
    "@eadir",
    "@__thumb",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "@sharebin",
    "@tmp",
    "network trash folder",
    "temporary items",
    "__pycache__",
}
# Recovered by Windows' check of a disk; a backup of an editor; a lock of an office program; streams
# of Windows files, which WSL and network disks show as files.
CLUTTER_FORMS = re.compile(r"found\.\d{3}|.*~|~\$.*|.*:zone\.identifier|thumbs\.db:.*")
# Names with a dot first that are no person's work. Pictures in others are left out with a note.
DOT_CLUTTER = re.compile(
    r"\._.*|\.(ds_store|git|svn|hg|dvc|cache|venv|tox|idea|vscode|config|local|ipynb_checkpoints|"
    r"appledouble|appledb|appledesktop|spotlight-v\d+|fseventsd|documentrevisions-v\d+|trashes|"
    r"trash(-\d+)?|temporaryitems|thumbnails|thumb|thumbs|@__thumb|snapshots?|synology.*|"
    r"picasaoriginals|xvpics|tmb|stfolder|stversions|dropbox.*|sync.*|nfs.*|fuse_hidden.*|~lock.*)"
)
EMPTY_FOLDER = "an empty folder"  # the problem of a folder without files
# Ends of the names of pictures, readable here or not. A file without any may be a picture too.
PICTURE_SUFFIXES = {
    *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff"),
    *("avif", "heic", "heif", "ppm", "pgm", "pbm", "pnm", "jp2", "jxl", "psd", "tga", "ico"),
    *("dng", "cr2", "cr3", "nef", "arw", "raw", "svg", "img"),
}
Parts = tuple[str, ...]


@dataclass(frozen=True)
class ArchiveLimits:
    """Size limits of one source. A source beyond them is taken for an attack or a mistake."""

    members: int = 250_000  # files and folders, hidden ones too
    # Members of zero bytes. They are no pictures, and millions of them fit into a small archive.
    empty_members: int = 25_000
    path_length: int = 1024  # characters of one member's path
    total_path_length: int = 64 * 2**20  # characters of all paths, which are held in memory
    member_bytes: int = 256 * 2**20  # of one member, which is held in memory
    total_bytes: int = 20 * 2**30  # of all members, unpacked
    ratio: int = 1000  # unpacked to packed bytes of a zip member


@dataclass(frozen=True)
class Member:
    """One file: its path in the source, its bytes, and the progress of the reading.

    problem: why it is not read; then it has no bytes, and is left out. EMPTY_FOLDER: it is none.
    """

    parts: Parts
    data: bytes
    done: int  # packed bytes, or files, read so far
    total: int
    problem: str = ""


class LimitChecker:
    """Counts what was read. Its methods raise DamagedError beyond the limits."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self.members = self.empty_members = self.total_path_length = self.total_bytes = 0

    def add_member(self, path: str, size: int) -> None:
        """Count a file or folder of `size` bytes, whether or not it will be read."""
        limits = self.limits
        self.members += 1
        self.empty_members += size == 0
        self.total_path_length += len(path)
        if self.members > limits.members:
            raise too_many_files_error(limits)
        if self.empty_members > limits.empty_members:
            raise DamagedError(
                f"there are more than {limits.empty_members:,} empty files and folders"
            )
        if len(path) > limits.path_length:
            raise DamagedError(
                f"{shortened(path)} is a path of {len(path):,} characters, the most is "
                f"{limits.path_length:,}"
            )
        if self.total_path_length > limits.total_path_length:
            raise DamagedError(
                f"the paths of all files have more than {limits.total_path_length:,} characters"
            )

    def size_problem(self, path: str, size: int) -> str:
        """Return why a file of `size` bytes must not be read into memory, "" if it may be.

        Raises DamagedError for a picture; another large file, a film or a network, is left out.
        """
        if size <= self.limits.member_bytes:
            return ""
        fact = f"{size:,} bytes, the most for one file is {self.limits.member_bytes:,}"
        if is_picture_name(path):
            raise DamagedError(f"{shortened(path)} has {fact}")
        return fact

    def add_bytes(self, count: int) -> None:
        """Count unpacked bytes."""
        self.total_bytes += count
        if self.total_bytes > self.limits.total_bytes:
            raise DamagedError(f"it unpacks to more than {self.limits.total_bytes:,} bytes")


def too_many_files_error(limits: ArchiveLimits) -> DamagedError:
    """Return the error for a source with too many members."""
    return DamagedError(f"there are more than {limits.members:,} files and folders")


def not_a_file_error(name: str) -> DamagedError:
    """Return the error for a link or a device.

    Following one could read any file of this machine into a dataset, or wait for ever.
    """
    return DamagedError(f"{shortened(name)} is a link or a device, not a file")


def safe_parts(name: str) -> Parts:
    """Return a member's name cut at its slashes.

    Raises DamagedError for a name that points outside the archive. Nothing is extracted by these
    names, but an archive that has one was made to attack a program that does. A colon is refused
    only where it names a drive of Windows, as in `C:/`: elsewhere file names may have one.
    """
    name = name.replace("\\", "/")  # some Windows programs write backslashes
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:(/|$)", name):
        raise DamagedError(f"the archive holds a path that points outside it: {shortened(name)}")
    return parts


def is_hidden(parts: Parts) -> bool:
    """Return True for files that an operating system leaves behind, and for a member with no name.

    They are passed over. Names are compared without regard to case, as Windows and macOS do.
    """
    return not parts or any(map(_is_clutter, parts))


def hidden_picture_problem(parts: Parts) -> str:
    """Return why a picture is passed over that a person may have meant, "" for any other file."""
    hidden = [name.lower() for name in parts if _is_clutter(name)]
    is_meant = all(name.startswith(".") and not DOT_CLUTTER.fullmatch(name) for name in hidden)
    if not hidden or not is_meant or not has_picture_suffix(parts[-1]):
        return ""
    return "hidden, as a name begins with a dot"


def _is_clutter(name: str) -> bool:
    name = name.lower()
    return name.startswith(".") or name in CLUTTER or bool(CLUTTER_FORMS.fullmatch(name))


def is_picture_name(name: str) -> bool:
    """Return True for a name that ends like a picture's, or has no ending.

    An unreadable file of another name is a note beside the pictures, and no damaged picture.
    """
    return not PurePosixPath(name).suffix or has_picture_suffix(name)


def has_picture_suffix(name: str) -> bool:
    """Return True for a name that ends like a picture's."""
    return PurePosixPath(name).suffix[1:].lower() in PICTURE_SUFFIXES
