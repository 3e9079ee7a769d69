"""The named endpoints of the HTTP API. They call what the page and the command line call."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.tasks.base import check_finished
from resnet_demo.tasks.image_indexes import read_index
from resnet_demo.tasks.limits import ForbiddenError
from resnet_demo.tasks.status import reconcile_status
from resnet_demo.ui.gradio_fixes import building_blocks, fill_defaults, forget_session
from resnet_demo.ui.services import Services, show_errors
from resnet_demo.ui.uploads import uploaded_picture

if TYPE_CHECKING:  # as it stands in annotations only
    import numpy as np

LOOK_EVERY_S = 0.2


def api(services: Services) -> None:
    """Add `/train`, `/stop`, `/run`, `/evaluate` and `/classify` to the app being built."""

    @show_errors()
    def train(config: dict) -> str:
        """Queue a run. config: knobs and values, `recipe` among them. The run id."""
        if services.slices is not None:
            raise ForbiddenError("on ZeroGPU a run goes on from an open page alone, not over HTTP")
        return services.launcher.start(make_config(config), services.caller())

    @show_errors()
    def stop(run_id: str) -> str:
        """Ask a run to end, its checkpoint kept. What will happen, in words."""
        return services.launcher.stop(run_id, services.caller())

    async def run(run_id: str) -> dict:
        """State, progress and history of a run."""
        with show_errors():
            asked = services.runs.get(run_id)
            while (seen := services.snapshots.get_nowait(asked)).is_loading:
                await asyncio.sleep(LOOK_EVERY_S)
            return seen.to_dict()

    async def evaluate(
        run_id: str,
        split: str = "test",
        mode: str = "plain",
        against: str = "",
        robustness: bool = False,
    ) -> dict:
        """Score the run's kept weights on `test`, `val` or `train`; waits for the result.

        mode: plain, flip, flip-and-shift, flip-and-five-shifts or article. against: another run to
        compare with.
        robustness: also on images made worse, in seven ways and five strengths each: minutes.
        """
        with show_errors():
            return await evaluated(services, run_id, split, mode, against, robustness)

    async def classify(
        image: gr.FileData,
        run_id: str,
        fit: str = "crop",
        top: int = 5,
        against: str = "",
        similar: bool = False,
        inside: bool = False,
    ) -> dict:
        """The likeliest labels of an uploaded picture, where the first was seen, and more.

        similar: also the five most similar training images, place (from 0 in the dataset's own
        training images), cosine and label of each; the first time, the run looks at all of them,
        a minute or so. inside: also what each stage sees, its name and a picture of its strongest
        maps, which is a PNG file in base64: `base64.b64decode(answer["inside"][0]["png"])`.
        """
        with show_errors():
            asked = (run_id, fit, top, against, similar, inside)
            return await classified(services, image, *asked)

    blocks = building_blocks()
    for endpoint in (train, stop, run, evaluate, classify):
        call = forget_session(blocks, endpoint)
        gr.api(call, api_name=endpoint.__name__, concurrency_limit=None)
    fill_defaults(blocks)


def check_flag(name: str, value: Any) -> bool:
    """What a raw call says of an option that is on or off. Raises ConfigError."""
    if not isinstance(value, bool):
        raise ConfigError.rule(name, "true or false", value)
    return value


async def classified(
    services: Services,
    image: Any,
    run_id: str,
    fit: str,
    top: int,
    against: str,
    similar: bool = False,
    inside: bool = False,
) -> dict[str, Any]:
    """What a run says of an uploaded picture, as page and command line say it.

    As `answer`, and similar: rows of place, cosine and label; inside: stage and png of each stage.
    Both are None where they are not asked for.
    """
    check_flag("similar", similar), check_flag("inside", inside)
    dataset = services.runs.get(run_id).config().dataset if similar else None
    if dataset is not None:
        require_images(dataset, services.datasets)  # a mistake is told before anything is computed
    services.allowance.count_pictures(services.caller())
    rgb, told = await services.run_in_turn(answer, services, image, run_id, fit, top, against)
    told |= {"similar": None, "inside": None}
    if inside:
        told["inside"] = await services.run_in_turn(stages, services, run_id, rgb, fit)
    if similar:
        what = "indexing the training images"
        folder = await finished(what, services.image_indexes.start, run_id, services.caller())
        told["similar"] = await services.run_in_turn(alike, services, run_id, rgb, fit, folder)
    return told


def answer(
    services: Services, image: Any, run_id: str, fit: str, top: int, against: str
) -> tuple["np.ndarray", dict[str, Any]]:
    """An uploaded picture, (H, W, 3) uint8, and what a run says of it.

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
    fits = classifier.classify_each_fit(rgb, {fit: said})
    return rgb, {
        **said.to_dict(),
        "fit": fit,
        "fits": {way: one.labels[0] for way, one in fits.items()},
        "map": {"label": label, "values": classifier.class_map(rgb, label, fit).coarse},
        "seen": len(said.seen),
        "against": other and {"run": against, "labels": other.classify(rgb, top, fit).labels},
    }


def stages(services: Services, run_id: str, rgb: "np.ndarray", fit: str) -> list[dict[str, str]]:
    """The strongest maps of each stage, as the page and the command line draw them."""
    from resnet_demo.inference.heatmaps import encode_png

    grids = services.classifier(run_id).feature_maps(rgb, fit)
    return [{"stage": name, "png": b64encode(encode_png(grid)).decode()} for name, grid in grids]


def alike(
    services: Services, run_id: str, rgb: "np.ndarray", fit: str, folder: Path
) -> list[dict[str, Any]]:
    """The most similar training images by the index in that folder."""
    from resnet_demo.inference.neighbours import neighbour_rows

    return neighbour_rows(services.classifier(run_id).similar_images(rgb, read_index(folder), fit))


async def evaluated(
    services: Services,
    run_id: str,
    split: str,
    mode: str = "plain",
    against: str = "",
    robustness: bool = False,
) -> dict[str, Any]:
    """What the command line tells of an evaluation, each of its tasks started or found.

    Raises DemoError where one failed, StoppedError where one was stopped.
    """
    caller, evaluating = services.caller(), services.evaluations
    pair = against not in ("", None)
    if check_flag("robustness", robustness):  # a mistake is told before anything is computed
        await asyncio.to_thread(evaluating.robustness_folder, services.runs.get(run_id), split)
    dataset = services.runs.get(run_id).config().dataset if pair else None
    names = [run_id, services.runs.get(against).id] if pair else [run_id]
    folders = [
        await finished("the evaluation", evaluating.start, name, split, caller, dataset, mode)
        for name in names
    ]
    result = await asyncio.to_thread(compared if pair else read_result, *folders)
    if robustness:
        what = "the look at the robustness"
        folder = await finished(what, evaluating.start_robustness, run_id, split, caller)
        result["robustness"] = await asyncio.to_thread(read_result, folder, ROBUSTNESS_KEYS)
    return result


async def finished(what: str, start: Callable[..., Path], *asked: Any) -> Path:
    """The folder of a task that is started or found, once it has finished; raises as `evaluated`.

    Nothing here keeps others waiting: files are read and workers started in a thread.
    """
    folder = await asyncio.to_thread(start, *asked)
    while (status := await asyncio.to_thread(reconcile_status, folder)).is_live:
        await asyncio.sleep(LOOK_EVERY_S)
    check_finished(status, what)
    return folder


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Two evaluations beside each other. Loads torch, the first time."""
    from resnet_demo.evaluation.comparison import with_comparison
    from resnet_demo.evaluation.evaluate_run import read_evaluation

    return with_comparison(read_evaluation(first), read_evaluation(second))
