"""The named endpoints of the HTTP API. They call what the page and the command line call."""

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.context import Context

from resnet_demo.config import make_config
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.runs.results import read_result
from resnet_demo.tasks.status import settle
from resnet_demo.ui.services import Services, plainly, uploaded_picture

LOOK_EVERY_S = 0.2


def api(services: Services) -> None:
    """Add `/train`, `/stop`, `/run`, `/evaluate` and `/classify` to the app being built."""

    @plainly()
    def train(config: dict) -> str:
        """Queue a run. config: knobs and values, `recipe` among them. The run id."""
        return services.launcher.start(make_config(config), services.caller())

    @plainly()
    def stop(run_id: str) -> str:
        """Ask a run to end, its checkpoint kept. What will happen, in words."""
        return services.launcher.stop(run_id, services.caller())

    async def run(run_id: str) -> dict:
        """State, progress and history of a run."""
        with plainly():
            return services.watcher.look(services.runs.get(run_id)).to_dict()

    async def evaluate(
        run_id: str, split: str = "test", mode: str = "plain", against: str = ""
    ) -> dict:
        """Score the run's best weights on `test`, `val` or `train`; waits for the result.

        mode: plain, flip, flip-and-shift or article. against: another run to compare with.
        """
        with plainly():
            return await evaluated(services, run_id, split, mode, against)

    @plainly()
    def classify(
        image: gr.FileData, run_id: str, fit: str = "crop", top: int = 5, against: str = ""
    ) -> dict:
        """The likeliest labels of an uploaded picture, where the first was seen, and more."""
        return classified(services, image, run_id, fit, top, against)

    for endpoint in (train, stop, run, evaluate, classify):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)
    fill_defaults(Context.root_block)


def fill_defaults(blocks: gr.Blocks) -> None:
    """Let a raw call leave out what has a default, as one through Gradio's client may.

    Gradio 6.31 refuses it without a word; what has no default arrives as None.
    """
    check = blocks.validate_inputs

    def fill(called: Any, values: list[Any]) -> None:
        if all(isinstance(block, Api) for block in called.inputs):
            values.extend(block.value for block in called.inputs[len(values) :])
        check(called, values)

    blocks.validate_inputs = fill


def classified(
    services: Services, image: Any, run_id: str, fit: str, top: int, against: str
) -> dict[str, Any]:
    """What a run says of an uploaded picture, as page and command line say it.

    labels, outside, fit; fits: the first label in each way to make a square of it; map: where the
    first label was seen, rows of numbers from 0 to 1; seen: pixels a side of what the network got;
    against: run and labels of another run that was asked too, else None.
    """
    classifier = services.classifier(run_id)
    other = services.classifier(against) if against not in ("", None) else None
    path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
    rgb = decode_picture(uploaded_picture(path))
    said = classifier.classify(rgb, top, fit)
    label = said.labels[0]["label"]
    return {
        **said.to_dict(),
        "fit": fit,
        "fits": {way: one.labels[0] for way, one in classifier.fits(rgb).items()},
        "map": {"label": label, "values": classifier.looked(rgb, label, fit).coarse},
        "seen": len(said.seen),
        "against": other and {"run": against, "labels": other.classify(rgb, top, fit).labels},
    }


async def evaluated(
    services: Services, run_id: str, split: str, mode: str = "plain", against: str = ""
) -> dict[str, Any]:
    """What the command line tells of an evaluation, each of its tasks started or found.

    Raises DemoError where one failed, StoppedError where one was stopped.
    """
    if against in ("", None):
        folder = await finished_evaluation(services, run_id, split, mode)
        return await asyncio.to_thread(read_result, folder)
    dataset = services.runs.get(run_id).config().dataset
    services.runs.get(against)  # a mistake is told before anything is computed
    folders = [
        await finished_evaluation(services, name, split, mode, dataset)
        for name in (run_id, against)
    ]
    return await asyncio.to_thread(compared, *folders)


async def finished_evaluation(
    services: Services, run_id: str, split: str, mode: str, dataset: str | None = None
) -> Path:
    """The folder of an evaluation that has finished; raises as `evaluated`.

    Nothing here keeps others waiting: files are read and workers started in a thread.
    """
    folder = await asyncio.to_thread(
        services.evaluating.start, run_id, split, services.caller(), dataset, mode
    )
    while (status := await asyncio.to_thread(settle, folder)).is_live:
        await asyncio.sleep(LOOK_EVERY_S)
    if status.state == "stopped":
        raise StoppedError("the evaluation was stopped")
    if status.state == "failed":
        raise DemoError(status.message)
    return folder


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Two evaluations beside each other. Loads torch, the first time."""
    from resnet_demo.runs.comparison import with_against
    from resnet_demo.runs.evaluation import read_evaluated

    return with_against(read_evaluated(first), read_evaluated(second))
