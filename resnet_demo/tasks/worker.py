"""A task's process: `python -m resnet_demo.tasks.worker VERB FOLDER`.

VERB is train, evaluate, get, survey or import. It waits for its turn without torch, does the work,
and puts every state and every failure where readers look for them. The launcher's lock came with
it, open, and lasts until the process ends.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.events import Ended, Event, Failed, Stopped
from resnet_demo.files import write_atomically
from resnet_demo.places import Places
from resnet_demo.runs.store import Run, Runs
from resnet_demo.runs.view import RunView
from resnet_demo.runs.words import in_words
from resnet_demo.tasks import data_work
from resnet_demo.tasks.status import StopSignal, close, report, request_stop
from resnet_demo.tasks.turns import wait_for_turn
from resnet_demo.tasks.work import Telling, begin, in_short, perform

DEEDS = {"get": data_work.get, "survey": data_work.survey, "import": data_work.bring}


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
        end(run, "failed", in_short(error), on_event)
        raise
    finally:
        os.close(lock)  # the next one's turn
    close(run.path, event.kind, event.message)
    return event


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
    """Fill an evaluation's folder with `result.json`. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))

    def work(tell: Telling) -> str:
        from resnet_demo.runs.evaluation import evaluate_run

        begin(folder, "running", "")
        run = Runs(places).get(told["run"])
        on_batch = partial(tell, unit="images")
        datasets = Datasets(places.data)
        result = evaluate_run(run, datasets, told["split"], told["dataset"], on_batch)
        if not result["weights"].startswith(told["weights"]):  # as the folder is named
            raise DemoError("the run has better weights by now: evaluate it again")
        write_atomically(folder / "result.json", json.dumps(result).encode())
        return ""

    perform(folder, "loading torch and the images", work)


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
        return
    with suppress(DemoError):  # told in status.json already
        {**DEEDS, "evaluate": evaluate}[verb](folder, places)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
