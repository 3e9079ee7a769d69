"""The named endpoints of the HTTP API, built on the same functions as page and command line."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.data.recipe_fit import fit_recipe
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.runs.dataset import dataset_changed
from resnet_demo.tasks.base import check_finished
from resnet_demo.tasks.image_indexes import read_index
from resnet_demo.tasks.limits import ForbiddenError
from resnet_demo.tasks.status import reconcile_status
from resnet_demo.ui.gradio_fixes import building_blocks, fill_defaults, forget_session
from resnet_demo.ui.services import Services, show_errors
from resnet_demo.ui.uploads import uploaded_picture

if TYPE_CHECKING:  # used in annotations only
    import numpy as np

POLL_S = 0.2


def add_endpoints(services: Services) -> None:
    """Add `/train`, `/stop`, `/run`, `/evaluate` and `/classify` to the app being built."""
    blocks, endpoints = building_blocks(), Endpoints(services)
    for endpoint in (
        endpoints.train,
        endpoints.stop,
        endpoints.run,
        endpoints.evaluate,
        endpoints.classify,
    ):
        call = forget_session(blocks, endpoint)
        # No limit: `/evaluate` waits for minutes, and would keep other calls waiting with it.
        gr.api(call, api_name=endpoint.__name__, concurrency_limit=None)
    fill_defaults(blocks)


class Endpoints:
    """The named endpoints. Gradio shows their names, types and docstrings on its API page."""

    def __init__(self, services: Services) -> None:
        self.services = services

    @show_errors()
    def train(self, config: dict) -> str:
        """Queue a run and return its run id. config: settings and values, `recipe` among them."""
        services = self.services
        if services.slices is not None:
            # Each slice needs the page's proof of who the visitor is.
            raise ForbiddenError("on ZeroGPU a run needs an open page and cannot start over HTTP")
        fitted, _ = fit_recipe(config, services.datasets)
        return services.launcher.start(fitted, services.caller())

    @show_errors()
    def stop(self, run_id: str) -> str:
        """Stop a run and keep its checkpoint. Returns a message."""
        return self.services.launcher.stop(run_id, self.services.caller())

    async def run(self, run_id: str) -> dict:
        """Return state, progress and history of a run."""
        with show_errors():
            found = self.services.runs.get(run_id)
            # A long log is read in a thread; unlike the page, a caller gets the whole history.
            while (seen := self.services.snapshots.get_nowait(found)).is_loading:
                await asyncio.sleep(POLL_S)
            return seen.to_dict()

    async def evaluate(
        self,
        run_id: str,
        split: str = "test",
        mode: str = "plain",
        against: str = "",
        robustness: bool = False,
    ) -> dict:
        """Score a run's saved weights on `test`, `val` or `train`; return the result when done.

        mode: plain, flip, flip-and-shift, flip-and-five-shifts or article. against: another run to
        compare with. robustness: also on corrupted images, seven kinds at five strengths; this
        takes minutes.
        """
        with show_errors():
            return await evaluate_run(self.services, run_id, split, mode, against, robustness)

    async def classify(
        self,
        image: gr.FileData,
        run_id: str,
        fit: str = "",
        top: int = 5,
        against: str = "",
        similar: bool = False,
        inside: bool = False,
    ) -> dict:
        """Classify an uploaded picture; return the top labels, a class map of the first, and more.

        fit: how the picture is made square: crop, squash or pad; empty: as the training images.
        similar: add the five most similar training images with position (from 0, among the
        dataset's training images), cosine and label; the first time, indexing takes a minute or so.
        dataset_changed: with them, whether the dataset has changed since training; null if unknown.
        inside: add the strongest feature maps of each stage, as the stage's name and a PNG file in
        base64: `base64.b64decode(answer["inside"][0]["png"])`.
        """
        with show_errors():
            return await classify_upload(
                self.services, image, run_id, fit, top, against, similar, inside
            )


def check_flag(name: str, value: Any) -> bool:
    """Return an option that is on or off. Raises ConfigError for anything but a bool."""
    # A raw call may send any JSON: the text "false" would count as true.
    if not isinstance(value, bool):
        raise ConfigError.rule(name, "true or false", value)
    return value


async def classify_upload(
    services: Services,
    image: Any,
    run_id: str,
    fit: str,
    top: int,
    against: str,
    similar: bool = False,
    inside: bool = False,
) -> dict[str, Any]:
    """Return `classify_picture`'s answer with `similar` and `inside`, None where not requested.

    similar: rows of place, cosine and label; with them, dataset_changed says whether the dataset
    has changed since training, None if that is not known. inside: stage and png of each stage.
    """
    check_flag("similar", similar)
    check_flag("inside", inside)
    # Mistakes are reported before anything is computed or counted.
    run = services.runs.get(run_id)
    if similar:
        require_images(run.config().dataset, services.datasets)
    pictures = 1 + (against not in ("", None)) + similar + inside
    services.allowance.count_pictures(services.caller(), pictures)
    # A turn for each part: the picture, the answer, the feature maps and the similar images.
    # Gradio hands over FileData, or what a raw call has sent.
    path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
    rgb = await services.decode(uploaded_picture(path))
    answer = await services.run_in_turn(classify_picture, services, rgb, run_id, fit, top, against)
    answer |= {"similar": None, "dataset_changed": None, "inside": None}
    if inside:
        answer["inside"] = await services.run_in_turn(feature_maps, services, run_id, rgb, fit)
    if similar:
        name, start = "indexing the training images", services.image_indexes.start
        folder = await finish_task(name, start, run_id, services.caller())
        answer["similar"] = await services.run_in_turn(
            similar_images, services, run_id, rgb, fit, folder
        )
        answer["dataset_changed"] = await asyncio.to_thread(
            dataset_changed, services.runs.get(run_id), services.datasets
        )
    return answer


def classify_picture(
    services: Services, rgb: "np.ndarray", run_id: str, fit: str, top: int, against: str
) -> dict[str, Any]:
    """Return a run's answer for a picture, (H, W, 3) uint8.

    labels, outside, fit; fits: the first label with each way to make the picture square; map: the
    class map of the first label, rows of numbers from 0 to 1; seen: the network's input size in
    pixels; against: run and labels of another run, or None.
    """
    classifier = services.classifier(run_id)
    other = services.classifier(against) if against not in ("", None) else None
    fit = fit or classifier.preprocessing.fit
    result = classifier.classify(rgb, top, fit)
    label = result.labels[0]["label"]
    fits = classifier.classify_each_fit(rgb, {fit: result})
    return {
        **result.to_dict(),
        "fit": fit,
        "fits": {name: each.labels[0] for name, each in fits.items()},
        "map": {"label": label, "values": classifier.class_map(rgb, label, fit).coarse},
        "seen": len(result.seen),
        "against": other and {"run": against, "labels": other.classify(rgb, top, fit).labels},
    }


def feature_maps(
    services: Services, run_id: str, rgb: "np.ndarray", fit: str
) -> list[dict[str, str]]:
    """Return the strongest feature maps of each stage, as a PNG in base64."""
    from resnet_demo.inference.heatmaps import encode_png

    grids = services.classifier(run_id).feature_maps(rgb, fit)
    return [{"stage": name, "png": b64encode(encode_png(grid)).decode()} for name, grid in grids]


def similar_images(
    services: Services, run_id: str, rgb: "np.ndarray", fit: str, folder: Path
) -> list[dict[str, Any]]:
    """Return the most similar training images, by the index in this folder."""
    from resnet_demo.inference.neighbours import neighbour_rows

    return neighbour_rows(services.classifier(run_id).similar_images(rgb, read_index(folder), fit))


async def evaluate_run(
    services: Services,
    run_id: str,
    split: str,
    mode: str = "plain",
    against: str = "",
    robustness: bool = False,
) -> dict[str, Any]:
    """Return the result of an evaluation as the command line prints it. Tasks are started or found.

    Raises DemoError if one failed, StoppedError if one was stopped.
    """
    caller, evaluations = services.caller(), services.evaluations
    has_other = against not in ("", None)
    # Mistakes are reported before anything is computed, which may take minutes.
    if check_flag("robustness", robustness):
        await asyncio.to_thread(evaluations.robustness_folder, services.runs.get(run_id), split)
    dataset = services.runs.get(run_id).config().dataset if has_other else None
    names = [run_id, services.runs.get(against).id] if has_other else [run_id]
    folders = [
        await finish_task("the evaluation", evaluations.start, name, split, caller, dataset, mode)
        for name in names
    ]
    result = await asyncio.to_thread(compare_results if has_other else read_result, *folders)
    if robustness:
        start = evaluations.start_robustness
        folder = await finish_task("the robustness test", start, run_id, split, caller)
        result["robustness"] = await asyncio.to_thread(read_result, folder, ROBUSTNESS_KEYS)
    return result


async def finish_task(name: str, start: Callable[..., Path], *args: Any) -> Path:
    """Start or find a task, wait for its end and return its folder; raises as `evaluate_run`."""
    # Files are read and workers started in a thread: the event loop serves others meanwhile.
    folder = await asyncio.to_thread(start, *args)
    while (status := await asyncio.to_thread(reconcile_status, folder)).is_live:
        await asyncio.sleep(POLL_S)
    check_finished(status, name)
    return folder


def compare_results(first: Path, second: Path) -> dict[str, Any]:
    """Return the first evaluation with its comparison to the second. Loads torch."""
    from resnet_demo.evaluation.comparison import with_comparison
    from resnet_demo.evaluation.evaluate_run import read_evaluation

    return with_comparison(read_evaluation(first), read_evaluation(second))
