"""Which uploads each open page has shown. In public, what no open page shows is removed.

Gradio keeps a file once, however many sent it, and by itself removes it after an hour.
"""

import threading
from contextlib import suppress
from pathlib import Path

from gradio.context import LocalContext

MOST = 10_000  # pages remembered; of one that never tells its end the oldest is forgotten


class Sessions:
    """The pages that are open, by Gradio's name for each. Safe to use from any thread."""

    def __init__(self) -> None:
        self.files: dict[str, set[Path]] = {}
        self.lock = threading.Lock()

    def note(self, *files: Path) -> None:
        """The page that asks at this moment shows these uploads."""
        name = current()
        if name is None:
            return
        with self.lock:
            self.files.setdefault(name, set()).update(files)
            while len(self.files) > MOST:
                self.files.pop(next(iter(self.files)))

    def end(self) -> None:
        """The page that asks at this moment was closed: its uploads go, unless another has them."""
        with self.lock:
            mine = self.files.pop(current() or "", set())
            for file in mine.difference(*self.files.values()):
                file.unlink(missing_ok=True)
                with suppress(OSError):  # something else lies there too
                    file.parent.rmdir()


def current() -> str | None:
    """The session of the event that runs at this moment."""
    return getattr(LocalContext.request.get(None), "session_hash", None)
