"""The event log: append-only JSON lines, one writer, any number of readers."""

import os
from collections.abc import Iterator
from pathlib import Path

from resnet_demo.events import Event, Step, from_line, to_line
from resnet_demo.files import reporting_disk_full

CHUNK = 256 * 1024  # bytes that are read at once: some thousand events


class EventLog:
    """`events.jsonl` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove_torn_line(self) -> None:
        """Cut off a last line that a kill left torn. For the writer, before it goes on."""
        if not self.path.exists():
            return
        with open(self.path, "r+b") as file:
            content_end = file.seek(0, os.SEEK_END)
            keep = content_end
            while keep and not ends_line(file, keep):
                keep -= 1
            if keep < content_end:
                file.truncate(keep)

    def append(self, event: Event) -> None:
        """One line, visible to every reader at once; durable at the end of an epoch.

        Raises DiskFullError, OSError.
        """
        line = to_line(event).encode()
        with (
            reporting_disk_full(self.path.parent, len(line), "the log"),
            open(self.path, "ab") as file,
        ):
            file.write(line)
            file.flush()
            if not isinstance(event, Step):
                os.fsync(file.fileno())

    def read(self, offset: int = 0, most: int | None = None) -> tuple[list[Event], int]:
        """Whole lines from byte `offset` on, and the offset to go on from.

        most: bytes to read; a line that is longer is read to its end.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                content = file.read(most)
                while b"\n" not in content and (more := file.read(most)):
                    content += more
        except FileNotFoundError:
            return [], 0
        whole = content[: content.rfind(b"\n") + 1]
        events = (from_line(line.decode("utf-8", "replace")) for line in whole.splitlines())
        return [event for event in events if event is not None], offset + len(whole)

    def size(self) -> int:
        """Bytes that were written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def __iter__(self) -> Iterator[Event]:
        offset, end = 0, -1
        while offset != end:
            end = offset
            events, offset = self.read(end, CHUNK)
            yield from events


def ends_line(file, position: int) -> bool:
    """Whether the byte before `position` is a line's end."""
    file.seek(position - 1)
    return file.read(1) == b"\n"
