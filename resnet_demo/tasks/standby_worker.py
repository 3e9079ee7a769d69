"""A standby worker: a process that has imported torch before there is work for it.

`python -m resnet_demo.tasks.standby_worker DESCRIPTOR APP` imports what tasks need, at low
priority, and waits on a socket. APP: number of the app's process. The launcher sends a task with
the open files of its lock and its log, also while it still imports; from then on the process is a
worker like any other. It ends with the app, however that ends: its socket is closed then, and it
gets another parent.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from resnet_demo.files import free_memory
from resnet_demo.paths import REPOSITORY
from resnet_demo.tasks.process_setup import OPTIMIZERS, configure_process, import_quickly

IDLE_S = 600.0  # without an open page
CHECK_S = 1.0
RETRY_S = 60.0  # after a standby worker ended by itself
FIRST_STEPS_S = 3.0  # after one was taken: a person waits for its first steps
ANSWER_S = 2.0  # a standby worker that does not take a task within this time is killed
IMPORT_S = 3.0  # with a task, it waits so long for its imports, then starts again as a new process
START_MEMORY, KEEP_MEMORY = 2 * 10**9, 10**9  # bytes that are free before, and while it waits
NEEDED = (
    "resnet_demo.tasks.worker",
    "resnet_demo.training.distributed",
    "resnet_demo.training.fit",
    "resnet_demo.evaluation.evaluate_run",
    OPTIMIZERS,
)
TAKEN = b"t"
COMMAND = ("-m", "resnet_demo.tasks.standby_worker")
LOW_PRIORITY = 19


class StandbyWorkers:
    """Keeps one standby worker while a page is open, and gives it to the next task.

    environment: returns what a worker gets now. is_busy: returns whether something is being waited
    for that starting one would slow down. command: of the process, without DESCRIPTOR and APP.
    """

    def __init__(
        self,
        environment: Callable[[], Mapping[str, str]],
        is_busy: Callable[[], bool],
        idle_s: float = IDLE_S,
        check_s: float = CHECK_S,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.environment, self.is_busy, self.command = environment, is_busy, command
        self.idle_s, self.check_s = idle_s, check_s
        self.waiting: StandbyWorker | None = None
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.wanted_at = self.retry_at = 0.0

    def want(self) -> None:
        """Keep a standby worker for the next minutes; return at once."""
        self.wanted_at = time.monotonic()
        if self.thread is None:  # a thread that is ending now is followed by the next call's
            self.thread = threading.Thread(target=self._keep, daemon=True)
            self.thread.start()

    def take(self, verb: str, folder: Path, lock: int, log: BinaryIO) -> subprocess.Popen | None:
        """Give the task to the standby worker; return its process, or None if there is none.

        lock, log: the open files of the task, which the process gets copies of. Returns within
        about ANSWER_S: a process that does not answer, or is no longer what a new one would be, is
        killed.
        """
        with self.lock:
            # Taken out under the lock: two tasks must not get the same process.
            worker, self.waiting = self.waiting, None
            if worker is not None:
                self.retry_at = max(self.retry_at, time.monotonic() + FIRST_STEPS_S)
        if worker is None:
            return None
        if worker.is_current(self.environment()) and worker.give(verb, folder, lock, log):
            return worker.process
        worker.end()
        return None

    def _keep(self) -> None:
        """Start and end standby workers as long as pages are open, in a thread."""
        while True:
            # Reads files of runs, so not while a start of a task waits for the lock.
            can_start = free_memory() >= START_MEMORY and not self.is_busy()
            is_wanted = time.monotonic() - self.wanted_at <= self.idle_s
            self._end_waiting(is_wanted and free_memory() >= KEEP_MEMORY)
            if not is_wanted:
                self.thread = None
                return
            if can_start and self.waiting is None and time.monotonic() >= self.retry_at:
                try:
                    # Only this thread sets it.
                    self.waiting = StandbyWorker(self.environment(), self.command)
                except OSError:  # out of processes or memory
                    self.retry_at = time.monotonic() + RETRY_S
            time.sleep(self.check_s)

    def _end_waiting(self, keep: bool) -> None:
        """End the standby worker, unless it lives and is to be kept."""
        with self.lock:
            worker = self.waiting
            if worker is None or (keep and worker.process.poll() is None):
                return
            self.waiting = None
        if worker.process.returncode is not None:  # by itself
            self.retry_at = time.monotonic() + RETRY_S
        worker.end()


class StandbyWorker:
    """A process that waits for its task, and the launcher's end of its socket."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str] = COMMAND) -> None:
        # What it was started with, to notice later that a new process would be another.
        self.environment, self.version = dict(environment), code_version()
        self.executable = sys.executable
        self.channel, child = socket.socketpair()
        with child:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, *command, str(child.fileno()), str(os.getpid())],
                    # Until it has a task, there is no file for its output.
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=REPOSITORY,
                    env=self.environment,
                    pass_fds=[child.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                self.channel.close()
                raise

    def is_current(self, environment: Mapping[str, str]) -> bool:
        """Return whether it lives and is what a process started now would be."""
        same = (self.executable, self.environment) == (sys.executable, dict(environment))
        return same and self.process.poll() is None and self.version == code_version()

    def give(self, verb: str, folder: Path, lock: int, log: BinaryIO) -> bool:
        """Give a task to the process; return whether it has taken it. The socket is closed."""
        message = json.dumps([verb, str(folder)]).encode()
        with self.channel, suppress(OSError):
            self.channel.settimeout(ANSWER_S)
            socket.send_fds(self.channel, [message], [lock, log.fileno()])
            return self.channel.recv(1) == TAKEN
        return False

    def end(self) -> None:
        """Kill it. A killed process executes nothing more, also where waiting for it fails."""
        self.channel.close()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ANSWER_S)


def code_version() -> str:
    """Return a digest of the names, sizes and times of this package's files, and of torch's.

    A process that started before a change has imported what was there then.
    """
    files = sorted((REPOSITORY / "resnet_demo").rglob("*.py"))
    torch = importlib.util.find_spec("torch")
    found = hashlib.sha256()
    for file in [*files, *([Path(torch.origin)] if torch and torch.origin else [])]:
        with suppress(OSError):  # removed meanwhile
            status = file.stat()
            found.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def prepare() -> None:
    """Import what most tasks need; end the process where that fails."""
    is_done = False
    try:
        import_needed()
        is_done = True
    finally:
        if not is_done:
            traceback.print_exc()
            os._exit(1)  # from a thread


def import_needed() -> None:
    """Import, at low priority where the system has one for a thread, all that most tasks need."""
    if sys.platform == "linux":
        # Of this thread only: without the right to do so, no process gets back from a low priority.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
    import_quickly(*NEEDED)
    from resnet_demo.data.shapes import shapes10_digests

    shapes10_digests("train")  # drawn and hashed once in a process


def wait_for_task(channel: socket.socket, app: int) -> tuple[str, Path]:
    """Prepare, wait for a task, and return its verb and folder; exit when the app has ended.

    Output goes to the task's log from then on. The lock stays open until the process ends.
    """
    imports = threading.Thread(target=prepare, daemon=True)
    imports.start()
    while not select.select([channel], [], [], CHECK_S)[0]:
        # A process that the app forked may hold a copy of its end of the socket.
        if os.getppid() != app:
            os._exit(0)
    message, files, _, _ = socket.recv_fds(channel, 65536, 2)  # a verb and a path: far less
    if not message:
        os._exit(0)
    verb, folder = json.loads(message)
    _, log = files
    with os.fdopen(log, "wb") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    channel.sendall(TAKEN)
    channel.close()
    imports.join(IMPORT_S)
    if imports.is_alive():
        # Other programs keep it from the cores, and nothing can raise a low priority again.
        # The lock stays open.
        os.execv(sys.executable, [sys.executable, "-m", "resnet_demo.tasks.worker", verb, folder])
    return verb, Path(folder)


def main(descriptor: int, app: int) -> None:
    """Wait for a task and perform it. descriptor: of the socket. app: the app's process."""
    # Before the thread of low priority, which new threads, as those of numpy, would take over.
    importlib.import_module("numpy")
    configure_process()  # before torch is imported
    verb, folder = wait_for_task(socket.socket(fileno=descriptor), app)
    from resnet_demo.tasks import worker

    sys.argv[1:] = [verb, str(folder)]
    worker.main(verb, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
