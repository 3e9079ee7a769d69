"""A task's process: `python -m resnet_demo.tasks.worker train|evaluate FOLDER`.

It waits for its turn without torch, does the work, and puts every state and every failure where
readers look for them. The launcher's lock came with it, open, and lasts until the process ends.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.events import Ended, Event, Failed, Stopped
from resnet_demo.files import write_atomically
from resnet_demo.places import Places
from resnet_demo.runs.store import Run, Runs
from resnet_demo.runs.view import RunView
from resnet_demo.runs.words import in_words
from resnet_demo.tasks.status import StopSignal, change, close, report, request_stop
from resnet_demo.tasks.turns import wait_for_turn

TELL_EVERY_S = 0.3


def train(
    run: Run,
    places: Places,
    on_event: Callable[[Event], None] = lambda event: None,
    on_wait: Callable[[int], None] = lambda place: None,
) -> Ended:
    """Take a queued run to its end, logging each event; the last of them.

    A failure is logged and told in the status; what the program did not foresee is raised again.
    """
    should_stop, log = StopSignal(run.path), run.log()
    report(run.path, pid=os.getpid())
    lock = wait_for_turn(run.path, should_stop, on_wait)
    if lock is None:
        return end(run, "stopped", "taken out of the queue before it started", on_event)
    try:
        begin(run.path, "preparing", "loading torch and the images")
        # A thread that waits for its siblings sleeps: spinning, it takes the core that they need as
        # soon as anything else runs here, the page itself for one. Read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from resnet_demo.training.fit import fit  # seconds, and the waiting must not pay for it

        log.mend()
        event = None
        for event in fit(run.config(), Datasets(places.data), run.path, should_stop):
            log.append(event)
            on_event(event)
            if event.kind in ("started", "resumed"):
                begin(run.path, "running", getattr(event, "message", ""))
    except DemoError as error:
        return end(run, "failed", str(error), on_event)
    except Exception as error:
        end(run, "failed", f"{type(error).__name__}: {first_line(error)}", on_event)
        raise
    finally:
        os.close(lock)  # the next one's turn
    close(run.path, event.kind, event.message)
    return event


def begin(folder: Path, state: str, message: str) -> None:
    """Move on, unless a stop was asked for meanwhile: then the next look at it ends the work."""
    change(folder, state, unless=("stopping",), message=message)


def end(run: Run, kind: str, message: str, on_event: Callable[[Event], None]) -> Ended:
    """Log and tell an end that the loop did not reach by itself."""
    view = RunView(run.log())
    run.log().mend()
    view.refresh()
    best = view.best
    event = (Failed if kind == "failed" else Stopped)(
        step=view.step,
        epoch=view.last.epoch if view.last else 0,
        best_epoch=best.epoch if best else None,
        best_val_top1=best.val_top1 if best else None,
        seconds=view.worked(),
        message=message,
    )
    run.log().append(event)
    close(run.path, kind, message)
    on_event(event)
    return event


def evaluate(folder: Path, places: Places) -> None:
    """Fill an evaluation's folder with `result.json`."""
    should_stop = StopSignal(folder)
    told = json.loads((folder / "task.json").read_text("utf-8"))
    last = 0.0

    def on_batch(done: int, total: int) -> None:
        nonlocal last
        if should_stop():
            raise StoppedError("stopped")
        if done == total or time.monotonic() - last > TELL_EVERY_S:
            last = time.monotonic()
            report(folder, done=done, total=total, unit="images")

    report(folder, pid=os.getpid())
    try:
        begin(folder, "preparing", "loading torch and the images")
        if should_stop():
            raise StoppedError("stopped")
        from resnet_demo.runs.evaluation import evaluate_run

        begin(folder, "running", "")
        run = Runs(places).get(told["run"])
        datasets = Datasets(places.data)
        result = evaluate_run(run, datasets, told["split"], told["dataset"], on_batch)
        if not result["weights"].startswith(told["weights"]):  # as the folder is named
            raise DemoError("the run has better weights by now: evaluate it again")
        write_atomically(folder / "result.json", json.dumps(result).encode())
        close(folder, "finished", "")
    except StoppedError as error:
        close(folder, "stopped", str(error))
    except DemoError as error:
        close(folder, "failed", str(error))
    except Exception as error:
        close(folder, "failed", f"{type(error).__name__}: {first_line(error)}")
        raise


def first_line(error: Exception) -> str:
    """What an unforeseen error says, short enough for a status line."""
    return (str(error).splitlines() or [""])[0][:200]


def say(text: str) -> None:
    """A line for worker.log, with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def ask_to_stop(folder: Path) -> None:
    """From a signal handler: in a thread, since the code it interrupted may hold the lock."""
    threading.Thread(target=request_stop, args=(folder, "asked to stop by a signal")).start()


def main(verb: str, folder: Path) -> None:
    """Do one task. SIGTERM, as a shutting-down machine sends it, is a request to stop."""
    signal.signal(signal.SIGTERM, lambda *_: ask_to_stop(folder))
    places = Places.from_environment()
    if verb == "train":
        waiting = "waiting, place {} in the queue".format
        train(
            Run(folder),
            places,
            on_event=lambda event: say(in_words(event)),
            on_wait=lambda place: say(waiting(place)),
        )
    else:
        evaluate(folder, places)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
