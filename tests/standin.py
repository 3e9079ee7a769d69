"""A ZeroGPU of our own, without a GPU: what is known of the platform, acted out.

A decorated generator runs in a daemon process that is forked for it, in a thread there. Arguments
and results are pickled, it may start no process, and it is killed at its duration, or at a moment
that a test chooses, without warning. Closed by its caller, it is closed at its next result.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

FORBIDDEN = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "subprocess.Popen")
CONTEXT = multiprocessing.get_context("fork")
DONE = "done"  # the last message of a task that came to its end


class Aborted(Exception):
    """What the platform says of a process that it killed, or of a quota that is used up."""


class ZeroGPU:
    """moments: of each process in turn, what is asked until it says yes, for the kill; None: none.

    quota: seconds that may still be asked for.
    """

    def __init__(self, error: type[Exception] = Aborted, quota: float = 1e9) -> None:
        self.error, self.quota = error, quota
        self.moments: list[Callable[..., bool] | None] = []
        self.begun = self.killed = 0
        self.forking = threading.Lock()

    def GPU(self, task: Any = None, *, duration: Any = 60) -> Any:
        """The decorator."""
        if task is None:
            return lambda task: self.GPU(task, duration=duration)

        def on_gpu(*args: Any) -> Iterator[Any]:
            seconds = duration(*args) if callable(duration) else duration
            if seconds > self.quota:
                raise self.error(f"quota exceeded ({seconds}s requested vs. {self.quota}s left)")
            self.quota -= seconds
            moment = self.moments.pop(0) if self.moments else None
            yield from self.run(task, pickle.dumps(args), seconds, moment)

        return on_gpu

    def run(self, task: Any, args: bytes, seconds: float, moment: Any) -> Iterator[Any]:
        """One process, from its fork to its end."""
        with self.forking:
            results, told = CONTEXT.Pipe(duplex=False)
            # a pipe and no Event, whose lock a process that is killed may take with it
            closing, close = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(
                target=child, args=(task, args, results, told, closing), daemon=True
            )
            with warnings.catch_warnings():  # Python 3.12: of forking beside threads, as it does
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            told.close()
        self.begun += 1
        killer = threading.Thread(
            target=self.kill, args=(process, seconds, moment, args), daemon=True
        )
        killer.start()
        try:
            while (message := results.recv())[0] != DONE:
                if message[0] == "error":
                    process.join()
                    raise self.error(message[1])
                yield message[1]
        except EOFError:
            process.join()
            raise self.error("GPU task aborted") from None
        except GeneratorExit:
            close.send(True)  # it still finds out
            raise
        else:
            process.join()
        finally:
            for end in (results, closing, close):
                end.close()

    def kill(self, process: Any, seconds: float, moment: Any, args: bytes) -> None:
        """End it at its time, or when it is asked for."""
        until, told = time.monotonic() + seconds, pickle.loads(args)  # noqa: S301 - ours
        while process.is_alive():
            if time.monotonic() > until or (moment and moment(*told)):
                self.killed += 1
                os.kill(process.pid, signal.SIGKILL)
                return
            time.sleep(0.003)


def child(task: Any, args: bytes, results: Any, told: Any, closing: Any) -> None:
    """What the forked process does."""
    results.close()
    sys.addaudithook(forbid)
    thread = threading.Thread(target=iterate, args=(task, args, told, closing))
    thread.start()
    thread.join()
    os._exit(0)  # not what the parent registered for its own end


def iterate(task: Any, args: bytes, told: Any, closing: Any) -> None:
    """Hand out what the generator gives."""
    generator = task(*pickle.loads(args))  # noqa: S301 - ours
    try:
        for result in generator:
            if closing.poll():
                generator.close()
                return
            told.send(("result", result))
        told.send((DONE, None))
    except BrokenPipeError:
        generator.close()
    except Exception as error:  # noqa: BLE001 - the platform tells the name of any
        told.send(("error", type(error).__name__))


def forbid(event: str, args: tuple) -> None:
    """An audit hook: no other process."""
    if event in FORBIDDEN:
        raise RuntimeError(f"daemonic processes are not allowed to have children: {event}")
