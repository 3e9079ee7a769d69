"""The named endpoints of the HTTP API. They call what the page and the command line call."""

import asyncio
import json
from typing import Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.errors import DemoError, StoppedError
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

    async def evaluate(run_id: str, split: str = "test") -> dict:
        """Score the run's best weights on `test`, `val` or `train`; waits for the result."""
        with plainly():
            return await evaluated(services, run_id, split)

    @plainly()
    def classify(image: gr.FileData, run_id: str) -> dict:
        """The five likeliest labels of an uploaded picture, with confidences from 0 to 1."""
        path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
        return {"labels": services.classifier(run_id).classify_file(uploaded_picture(path)).labels}

    for endpoint in (train, stop, run, evaluate, classify):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)


async def evaluated(services: Services, run_id: str, split: str) -> dict[str, Any]:
    """The result of an evaluation task, started or found. Raises DemoError where it failed."""
    folder = services.evaluating.start(run_id, split, services.caller())
    while (status := settle(folder)).is_live:
        await asyncio.sleep(LOOK_EVERY_S)
    if status.state == "stopped":
        raise StoppedError("the evaluation was stopped")
    if status.state == "failed":
        raise DemoError(status.message)
    return json.loads((folder / "result.json").read_text("utf-8"))
