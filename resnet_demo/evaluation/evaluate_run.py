"""Evaluating a run: one function for page, command line and API."""

import copy
import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import check_split
from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.calibration import calibration, confidence_histogram
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import macro_f1, score
from resnet_demo.evaluation.modes import check_images, check_mode
from resnet_demo.evaluation.stored_predictions import read_predictions
from resnet_demo.evaluation.stored_results import ANSWERS, read_answers, read_result, write_result
from resnet_demo.evaluation.tta import VIEWS, apply_view, mean_logits
from resnet_demo.files import write_atomically
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import OnBatch, evaluation_batch_size, load_split, predict
from resnet_demo.models.description import predictions_sha256
from resnet_demo.models.device import pick_device
from resnet_demo.runs.store import Run

ARTICLE_BATCH = 64  # images; in training mode they have a say in each other's answers
SHUFFLE = 42  # the tutorial's seed; another order is another score


@dataclass(frozen=True)
class RunEvaluation:
    """What a run answered on a split. logits: (N, C) float32; labels: (N,) int64, the truth.

    result: the numbers counted on them, ready for JSON; its keys are `results.EVALUATION`.
    """

    result: dict[str, Any]
    logits: Tensor
    labels: Tensor

    def save(self, folder: Path) -> None:
        """Write result.json, which comes last, and answers.safetensors. Raises OSError."""
        content = safetensors.torch.save(
            {"logits": self.logits.contiguous(), "labels": self.labels.contiguous()}
        )
        write_atomically(folder / ANSWERS, content)
        write_result(folder, {**self.result, "answers": hashlib.sha256(content).hexdigest()})


def read_evaluation(folder: Path) -> RunEvaluation:
    """What `save` wrote. Raises DamagedError for files that are missing, altered or older."""
    result = read_result(folder)
    tensors = safetensors.torch.load(read_answers(folder))
    return RunEvaluation(result, tensors["logits"], tensors["labels"])


def evaluate_run(
    run: Run,
    datasets: Datasets,
    split: str = "test",
    dataset: str | None = None,
    mode: str = "plain",
    on_batch: OnBatch | None = None,
) -> RunEvaluation:
    """Score the run's kept weights on a split, its own dataset's unless another is named.

    Where the images are not on this machine, the answers that are kept beside the weights stand in
    for them: `stored` is then true. In a mode other than plain (see `runs.modes`) the images are
    asked about plainly too, for `beside`. on_batch(done, total) is told after each batch, a view
    of an image counted as an image, and may raise StoppedError.
    Raises ConfigError, NotFoundError, DamagedError.
    """
    check_split(split)
    check_mode(mode)
    classifier, name = Classifier.load(run), dataset or run.config().dataset
    check_images(mode, name, datasets)
    saved = classifier.saved
    stored = name not in datasets.names() and predictions_sha256(saved.metrics, split, name)
    if stored:
        logits, labels = read_predictions(run.path, saved, split, name)
        plain = None
    else:
        logits, plain, labels = predict_mode(classifier, datasets, split, name, mode, on_batch)
    told = {"run": run.id, "dataset": name, "split": split, "weights": saved.sha256}
    told |= {"mode": mode, "stored": bool(stored), **result_metrics(logits, labels, saved.classes)}
    return RunEvaluation(
        {**told, "beside": plain_baseline(plain, labels, saved.classes)}, logits, labels
    )


def result_metrics(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """All that is counted on (N, C) logits beside the true labels (N,); N is 1 at least."""
    scores = score(logits, labels, classes).to_dict()
    right = sum(scores["confusion"][number][number] for number in range(len(classes)))
    return {
        **{
            "n": scores["n"],
            "top1": scores["top1"],
            "interval": [*wilson_interval(right, scores["n"])],
        },
        **{"top5": scores["top5"], "loss": scores["loss"]},
        "macro_f1": macro_f1(scores["confusion"]),
        **{"confusion": scores["confusion"], "per_class": scores["per_class"]},
        "calibration": asdict(calibration(logits, labels)),
        "histogram": asdict(confidence_histogram(logits, labels)),
    }


def plain_baseline(
    plain: Tensor | None, labels: Tensor, classes: tuple[str, ...]
) -> dict[str, Any] | None:
    """The plain score that another mode's stands beside."""
    if plain is None:
        return None
    scores = score(plain, labels, classes).to_dict()
    return {"mode": "plain", "top1": scores["top1"], "loss": scores["loss"]}


def predict_split(
    classifier: Classifier, datasets: Datasets, split: str, name: str
) -> tuple[Tensor, Tensor]:
    """Plain logits (N, C) float32 and the labels (N,) of a split. Raises as `evaluate_run`."""
    logits, _, labels = predict_mode(classifier, datasets, split, name)
    return logits, labels


def predict_mode(
    classifier: Classifier,
    datasets: Datasets,
    split: str,
    name: str,
    mode: str = "plain",
    on_batch: OnBatch | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Logits (N, C) float32 in that mode, the plain ones if it is another, and labels (N,)."""
    classifier.check_classes(datasets.get(name))
    images, labels = load_split(classifier.run, datasets, split, name)
    asking = SplitPredictor.of(
        classifier, images, 2 if mode == "article" else len(VIEWS[mode]), on_batch
    )
    if mode == "article":
        plain = asking.plainly(0)
        return asking.as_article(1), plain, labels
    logits = [asking.plainly(turn, steps) for turn, (_, steps) in enumerate(VIEWS[mode])]
    return mean_logits(logits, mode), logits[0] if mode != "plain" else None, labels


@dataclass(frozen=True)
class SplitPredictor:
    """A network on its device, asked about the same images `turns` times."""

    model: nn.Module
    preprocessing: Preprocessing
    images: Tensor
    turns: int
    on_batch: OnBatch | None

    @classmethod
    def of(
        cls, classifier: Classifier, images: Tensor, turns: int, on_batch: OnBatch | None
    ) -> "SplitPredictor":
        """With the images (N, H, W, 3) uint8 on the device that computes."""
        device, saved = pick_device(), classifier.saved
        model = saved.model.to(device, memory_format=torch.channels_last)
        preprocessing = Preprocessing.from_dict(saved.preprocessing)
        return cls(model, preprocessing, images.to(device), turns, on_batch)

    def plainly(self, turn: int, steps: tuple = ()) -> Tensor:
        """Logits (N, C) of a view of each image. turn: from 0."""
        return self._predict(
            self.model,
            turn,
            lambda batch: self.preprocessing.prepare(apply_view(batch, steps)),
            batch_size=evaluation_batch_size(self.preprocessing),
        )

    def as_article(self, turn: int) -> Tensor:
        """In training mode and shuffled, as the tutorial tests; in the images' own order.

        Asks a copy: training mode moves the running statistics.
        """
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(SHUFFLE))
        shuffled = replace(self, images=self.images[order.to(self.images.device)])
        logits = shuffled._predict(
            copy.deepcopy(self.model),
            turn,
            self.preprocessing.prepare,
            batch_size=ARTICLE_BATCH,
            training_mode=True,
        )
        return logits[order.argsort()]

    def _predict(self, model: nn.Module, turn: int, prepare: Any, **how: Any) -> Tensor:
        n = len(self.images)

        def tell(done: int, _: int) -> None:
            if self.on_batch is not None:
                self.on_batch(turn * n + done, self.turns * n)

        return predict(model, prepare, self.images, on_batch=tell, **how)
