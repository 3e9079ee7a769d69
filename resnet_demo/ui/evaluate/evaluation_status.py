"""State of the Evaluate tab: the status of its tasks, and what a tick changes on the page.

Every open page asks once a second, so statuses are cached until a file changes. A tick sets only
`gr.State` components, one for each part of the page, which the browser does not draw. Each changed
state then triggers a function that updates its part. An unchanged page receives nothing.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import DemoError, counted
from resnet_demo.evaluation.stored_results import read_result
from resnet_demo.files import FileVersion, file_version
from resnet_demo.models.description import DESCRIPTION, PENDING
from resnet_demo.runs.text import duration_text, error_note, escape_markdown
from resnet_demo.tasks.status import LIVE, Status
from resnet_demo.ui.components import progress_bar
from resnet_demo.ui.evaluate.matrix import MAX_CLASSES, matrix_html
from resnet_demo.ui.evaluate.text import headline
from resnet_demo.ui.services import Services, show_errors

DONE = "Evaluated. The result is saved."
NO_RUN = "No trained run yet: train a network on the **Train** tab first."
READY = "Press **Evaluate** to test the saved network on all images of the split."
NOT_EVALUATED = "not evaluated in this mode yet, press **Evaluate**"
STORED = "Loading the result that came with the run: a few seconds…"
COMPARING = "<p>Comparing…</p>"
WITHOUT_IMAGES_HINT = "Rows: true class. Columns: prediction. Right answers are on the diagonal."
MATRIX_HINT = f"{WITHOUT_IMAGES_HINT} **Click a number to see its images.**"
MANY_CLASSES_HINT = "The most frequent mistakes. **Click one to see its images.** The whole matrix:"
STATES = ("control", "result", "figures", "comparison", "robustness", "curve")


@dataclass(frozen=True)
class Selection:
    """Selection on the page: a run, the run to compare it with or None, split and mode."""

    run: str | None
    split: str = "test"
    mode: str = "plain"
    other: str | None = None

    @classmethod
    def from_page(cls, run: str | None, split: str, mode: str, other: str | None) -> "Selection":
        """Return the selection for the components' values. A run is not compared with itself."""
        return cls(run, split, mode, other if other and other != run else None)


@dataclass(frozen=True)
class EvaluationStatus:
    """Status of one evaluation or robustness measurement.

    state: a task's, `none` before its first start, `wrong` if it cannot be started.
    message: Markdown. share: of the work done, from 0 to 1. folder: the task's.
    """

    state: str
    message: str = ""
    share: float = 0.0
    folder: str | None = None

    @property
    def result_folder(self) -> str | None:
        """Return the folder if it holds a result."""
        return self.folder if self.state == "finished" else None

    @property
    def is_live(self) -> bool:
        """Return whether a worker runs."""
        return self.state in LIVE


@dataclass
class StatusCache:
    """Folders and finished statuses of evaluations, valid until one of their files changes."""

    services: Services
    folders: dict[tuple, tuple[tuple[FileVersion, ...], Path]] = field(default_factory=dict)
    finished: dict[Path, tuple[FileVersion, EvaluationStatus]] = field(default_factory=dict)

    def folder(self, selection: Selection, other: bool = False) -> Path:
        """Return the folder of the run's evaluation. Raises DemoError.

        other: that of the run to compare with, on the first run's dataset.
        """
        runs, evaluations = self.services.runs, self.services.evaluations
        # Both on one dataset, because they are compared image by image.
        run = runs.get(selection.other if other else selection.run)
        base = runs.get(selection.run) if other else run
        split, mode = selection.split, selection.mode
        return self._cached_folder(
            (run.path, base.path, split, mode),
            lambda: evaluations.folder(run, split, base.config().dataset, mode),
        )

    def robustness_folder(self, selection: Selection) -> Path:
        """Return the folder of the run's robustness. Raises DemoError."""
        run, evaluations = self.services.runs.get(selection.run), self.services.evaluations
        return self._cached_folder(
            (run.path, selection.split),
            lambda: evaluations.robustness_folder(run, selection.split),
        )

    def evaluation(self, selection: Selection, other: bool = False) -> EvaluationStatus:
        """Return the status of the run's evaluation, or of the other run's."""
        return self._status(lambda: self.folder(selection, other))

    def evaluations(self, selection: Selection) -> list[EvaluationStatus]:
        """Return the status of each selected run's evaluation; empty without a run."""
        if selection.run is None:
            return []
        first = self.evaluation(selection)
        return [first, self.evaluation(selection, other=True)] if selection.other else [first]

    def robustness(self, selection: Selection) -> EvaluationStatus:
        """Return the status of the run's robustness measurement."""
        return self._status(lambda: self.robustness_folder(selection))

    def _cached_folder(self, key: tuple, find: Callable[[], Path]) -> Path:
        """Return `find()`, cached until the run's weights or the datasets change."""
        paths = (key[0] / DESCRIPTION, key[0] / PENDING, self.services.datasets.root)
        # Finding the folder reads several files: too much for each page's request each second.
        marks = tuple(file_version(path) for path in paths)
        if self.folders.get(key, (None, None))[0] != marks:
            self.folders[key] = marks, find()
        return self.folders[key][1]

    def _status(self, find: Callable[[], Path]) -> EvaluationStatus:
        """Return the status of the task in this folder; an error is a status too."""
        try:
            folder = find()
            now = file_version(folder / "status.json")
            # A result that is written again has another version of its file.
            if folder in self.finished and self.finished[folder][0] == now:
                return self.finished[folder][1]
            task = self.services.evaluations.status(folder) if now else None
        except DemoError as error:
            return EvaluationStatus("wrong", error_note(error))
        if task is None:
            return EvaluationStatus("none", folder=str(folder))
        status = page_status(folder, task)
        # Only a finished status is final: a live one fails without a new file if its worker dies.
        if status.result_folder:
            self.finished[folder] = now, status
        return status


def page_status(folder: Path, task: Status) -> EvaluationStatus:
    """Return a task's status for the page."""
    if task.state == "finished":
        return EvaluationStatus("finished", share=1.0, folder=str(folder))
    # Messages of tasks may hold names of datasets and files.
    detail, share = escape_markdown(task.message), 0.0
    if task.state == "running" and not task.total:  # it has not counted its images yet
        detail = "loading the network and the images"
    if task.is_live and is_stored(str(folder)):
        return EvaluationStatus(task.state, STORED, 0.0, str(folder))
    if task.is_live and task.total:
        left = f", about {duration_text(task.seconds_left)} left" if task.seconds_left else ""
        detail = f"{task.done:,} of {counted(task.total, 'image')}{left}"
        share = min(1.0, task.done / task.total)
    message = task.state.capitalize()
    if task.state == "stopping":
        message = "Stopping after this batch."
    elif detail not in ("", task.state):  # not "Stopped: stopped"
        message += f": {detail}"
    return EvaluationStatus(task.state, message, share, str(folder))


def status_mark(statuses: StatusCache, selection: Selection) -> list[Any]:
    """Return a JSON value that changes when the page needs a tick."""
    evaluations = statuses.evaluations(selection)
    robustness = robustness_status(statuses, selection, evaluations)
    return [list(astuple(status)) for status in [*evaluations, robustness]]


def robustness_status(
    statuses: StatusCache, selection: Selection, evaluations: list[EvaluationStatus]
) -> EvaluationStatus:
    """Return the status of the robustness, which is offered only next to a result."""
    has_result = bool(evaluations) and evaluations[0].result_folder
    return statuses.robustness(selection) if has_result else EvaluationStatus("none")


def changed_states(
    statuses: StatusCache, selection: Selection, percent: bool, dark: bool, before: dict | None
) -> dict[str, Any]:
    """Return the new value of each state that changed; mostly none. Loads no torch.

    before: the values that the page has. `now` in the result: all values, for the next `before`.
    """
    evaluations, runs = statuses.evaluations(selection), [selection.run, selection.other]
    first, second = (*(status.result_folder for status in evaluations), None, None)[:2]
    robustness = robustness_status(statuses, selection, evaluations)
    now = {
        "control": [runs, [list(astuple(status)) for status in evaluations]],
        "result": [first, percent],
        "figures": [first, dark],  # not in `result`: another unit must not redraw the figures
        "comparison": {
            "first": first,
            "second": first and second,
            "runs": runs,
            "stored": is_stored(first),
        },
        "robustness": list(astuple(robustness)),
        # Figures are images, so they are drawn again for a page that turns dark.
        "curve": [robustness.result_folder, dark],
    }
    # Mostly nothing has changed, and then no component is updated and no further event triggered.
    changed = {name: now[name] for name in now if before is None or before.get(name) != now[name]}
    return {**changed, "now": now} if changed else {}


def is_stored(folder: str | None) -> bool:
    """Return whether the result was computed from answers stored with the run, without images."""
    return folder is not None and folder.endswith("-stored")


def control_updates(state: list[Any]) -> dict[str, Any]:
    """Return component name -> update: progress, message and buttons."""
    runs, statuses = state[0], [EvaluationStatus(*values) for values in state[1]]
    live = [status for status in statuses if status.is_live]
    # Both evaluations are on the same images, so each is half of the work.
    share = sum(status.share for status in statuses) / max(len(statuses), 1)
    # A finished evaluation is not repeated: its weights and images are part of its folder's name.
    is_done = bool(statuses) and all(status.result_folder for status in statuses)
    # While one of two still runs, Cancel has something to stop.
    is_stopping = all(status.state == "stopping" for status in live)
    return {
        "progress": gr.update(value=progress_bar(share) if live else "", visible=bool(live)),
        "message": status_message(runs, statuses),
        "start": gr.update(interactive=not live and not is_done),
        "cancel": gr.update(interactive=bool(live) and not is_stopping),
    }


def status_message(runs: list[str | None], statuses: list[EvaluationStatus]) -> str:
    """Return the status as Markdown; with two runs, a line for each."""
    if not statuses:
        return NO_RUN
    if statuses[0].state == "none":
        return READY
    if all(status.result_folder for status in statuses):
        return DONE
    # The first one's result is on the page already while the second one is evaluated.
    lines = []
    for run, status in zip(runs, statuses, strict=False):
        message = NOT_EVALUATED if status.state == "none" else status.message
        if message:
            lines.append(f"{run}: {message}" if len(statuses) > 1 else message)
    return "  \n".join(lines)


def result_updates(state: list[Any]) -> dict[str, Any]:
    """Return component name -> update: numbers and matrix; hidden without a result."""
    folder, percent = state
    if folder is None:
        return {"results": gr.update(visible=False)}
    with show_errors():
        result = read_result(Path(folder))
    labels = [row["label"] for row in result["per_class"]]
    # Names the evaluation: the marked cell stays marked while only the unit changes.
    source, is_list = f"{result['run']} {Path(folder).name}", len(labels) > MAX_CLASSES
    hint = WITHOUT_IMAGES_HINT if is_stored(folder) else MATRIX_HINT
    return {
        "unit": gr.update(visible=not is_list),
        "matrix_hint": MANY_CLASSES_HINT if is_list else hint,
        "results": gr.update(visible=True),
        "headline": headline(result),
        "matrix": matrix_html(result["confusion"], labels, percent, source),
    }


def comparison_updates(state: dict[str, Any]) -> dict[str, Any]:
    """Return component name -> update: a placeholder for the comparison, or none."""
    is_pair = bool(state["second"])
    return {
        "comparison_box": gr.update(visible=is_pair),
        "compared": COMPARING if is_pair else "",
    }


def robustness_updates(state: list[Any]) -> dict[str, Any]:
    """Return component name -> update: progress, message and buttons of the measurement."""
    status = EvaluationStatus(*state)
    # `wrong`: its message says why, as where the images are not on this machine.
    can_start = status.state not in (*LIVE, "wrong")
    can_cancel = status.is_live and status.state != "stopping"
    return {
        "robustness_progress": gr.update(
            value=progress_bar(status.share) if status.is_live else "", visible=status.is_live
        ),
        "robustness_message": status.message,
        "robustness_start": gr.update(interactive=can_start, visible=not status.result_folder),
        "robustness_cancel": gr.update(interactive=can_cancel, visible=status.is_live),
    }


# State -> the function that updates its part of the page, and the names of the components.
UPDATES = {
    "control": (control_updates, ("progress", "message", "start", "cancel")),
    "result": (result_updates, ("results", "headline", "matrix", "unit", "matrix_hint")),
    "comparison": (comparison_updates, ("comparison_box", "compared")),
    "robustness": (
        robustness_updates,
        (
            "robustness_message",
            "robustness_progress",
            "robustness_start",
            "robustness_cancel",
        ),
    ),
}
