"""A stand-in for ZeroGPU, without a GPU, that behaves as far as the platform is known.

A decorated generator runs in a thread of a daemon process that is forked for it. Arguments and
results are pickled, it may start no process, and it is killed without warning: at its duration, or
at a moment that a test chooses. When its caller closes it, it is closed at its next result.
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
    """The platform killed the process, or the quota is used up."""


class ZeroGPU:
    """The platform.

    moments: for each process in turn, a condition that is polled, and the process is killed when it
    holds; None for no kill. quota: seconds that may still be requested.
    """

    def __init__(self, error: type[Exception] = Aborted, quota: float = 1e9) -> None:
        self.error, self.quota = error, quota
        self.moments: list[Callable[..., bool] | None] = []
        self.begun = self.killed = 0
        self.forking = threading.Lock()

    def GPU(self, task: Any = None, *, duration: Any = 60) -> Any:
        """Return the decorated generator function, as `spaces.GPU` does."""
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
        """Run a task in one process, from its fork to its end."""
        with self.forking:
            results, sender = CONTEXT.Pipe(duplex=False)
            # A pipe, since a killed process may leave the lock of an Event locked.
            closing, close = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(
                target=child, args=(task, args, results, sender, closing), daemon=True
            )
            with warnings.catch_warnings():  # Python 3.12 warns of a fork beside threads
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            sender.close()
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
            close.send(True)  # the process reads it later
            raise
        else:
            process.join()
        finally:
            for end in (results, closing, close):
                end.close()

    def kill(self, process: Any, seconds: float, moment: Any, args: bytes) -> None:
        """Kill the process at its duration, or at the test's moment."""
        end, arguments = time.monotonic() + seconds, pickle.loads(args)  # noqa: S301 - ours
        while process.is_alive():
            if time.monotonic() > end or (moment and moment(*arguments)):
                self.killed += 1
                os.kill(process.pid, signal.SIGKILL)
                return
            time.sleep(0.003)


def child(task: Any, args: bytes, results: Any, sender: Any, closing: Any) -> None:
    """Run the forked process."""
    results.close()
    sys.addaudithook(forbid)
    thread = threading.Thread(target=iterate, args=(task, args, sender, closing))
    thread.start()
    thread.join()
    os._exit(0)  # without the exit handlers of the parent


def iterate(task: Any, args: bytes, sender: Any, closing: Any) -> None:
    """Send the generator's results."""
    generator = task(*pickle.loads(args))  # noqa: S301 - ours
    try:
        for result in generator:
            if closing.poll():
                generator.close()
                return
            sender.send(("result", result))
        sender.send((DONE, None))
    except BrokenPipeError:
        generator.close()
    except Exception as error:  # noqa: BLE001 - the platform sends the name of any
        sender.send(("error", type(error).__name__))


def forbid(event: str, args: tuple) -> None:
    """Raise RuntimeError when the process starts another; an audit hook."""
    if event in FORBIDDEN:
        raise RuntimeError(f"daemonic processes are not allowed to have children: {event}")
