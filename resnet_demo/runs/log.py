"""The event log of a run: append-only JSON lines, one writer, any number of readers."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resnet_demo.errors import DamagedError
from resnet_demo.events import Event, Step, from_line, to_line
from resnet_demo.files import open_file, reporting_disk_full

CHUNK = 256 * 1024  # bytes to read at once: about a thousand events
# Of one line; the longest real ones have some kilobytes. A file of zeros is one endless line.
MAX_LINE_BYTES = 16 * 2**20


class EventLog:
    """`events.jsonl` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove_torn_line(self) -> None:
        """Remove a last line that a kill left incomplete. The writer calls this first.

        Raises DamagedError for a pipe or a folder in place of the log.
        """
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise self.not_a_file()
        with open(self.path, "r+b") as file:
            content_end = file.seek(0, os.SEEK_END)
            keep = content_end
            while keep and not ends_line(file, keep):
                keep -= 1
            if keep < content_end:
                file.truncate(keep)

    def append(self, event: Event) -> None:
        """Write one line, visible to readers at once.

        Raises DiskFullError, OSError, DamagedError for a pipe or a folder in place of the log.
        """
        line = to_line(event).encode()
        try:
            with (
                reporting_disk_full(self.path.parent, len(line), "the log"),
                open_file(self.path, append=True) as file,
            ):
                file.write(line)
                file.flush()
                if not isinstance(event, Step):  # flushing every step to disk would slow training
                    os.fsync(file.fileno())
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise self.not_a_file() from error
            raise

    def not_a_file(self) -> DamagedError:
        """Return the error for a log that is a pipe, a device or a folder."""
        return DamagedError(f"{self.path.name} of {self.path.parent.name} is damaged")

    def read(self, offset: int = 0, limit: int | None = None) -> tuple[list[Event], int]:
        """Return the events of the whole lines from byte `offset` on, and the next offset.

        limit: bytes to read; a longer line is read to its end.
        Raises DamagedError for a line above MAX_LINE_BYTES, and for a pipe or a folder.
        """
        try:
            with open_file(self.path) as file:
                file.seek(offset)
                content = file.read(limit)
                more = content
                while b"\n" not in more and (more := file.read(limit)):
                    content += more
                    if len(content) > max(MAX_LINE_BYTES, limit or 0):
                        raise OSError(errno.EFBIG, "a line is too long")
        except FileNotFoundError:
            return [], 0
        except OSError as error:  # a pipe, a folder or an endless line in its place
            raise self.not_a_file() from error
        # The writer may be in the middle of a line, which is left for the next read.
        whole = content[: content.rfind(b"\n") + 1]
        # Undecodable bytes are replaced: one damaged line must not hide those after it.
        events = (from_line(line.decode("utf-8", "replace")) for line in whole.splitlines())
        return [event for event in events if event is not None], offset + len(whole)

    def size(self) -> int:
        """Return the size in bytes; 0 before the first event."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read_chunks(self, offset: int = 0) -> Iterator[tuple[list[Event], int]]:
        """Yield (events, next offset) from byte `offset` to the end, CHUNK bytes at a time."""
        end = -1
        while offset != end:
            end = offset
            events, offset = self.read(end, CHUNK)
            yield events, offset

    def __iter__(self) -> Iterator[Event]:
        for events, _ in self.read_chunks():
            yield from events


def ends_line(file: BinaryIO, position: int) -> bool:
    """Return whether the byte before `position` ends a line."""
    file.seek(position - 1)
    return file.read(1) == b"\n"
