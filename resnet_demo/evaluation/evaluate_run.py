"""Evaluation of a run's kept weights on a split, for the page, the command line and the API."""

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
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import calibration, confidence_histogram, macro_f1, score
from resnet_demo.evaluation.modes import (
    check_images,
    check_mode,
    is_cross_validation,
    no_validation_images,
)
from resnet_demo.evaluation.stored_predictions import read_cross_validation, read_predictions
from resnet_demo.evaluation.stored_results import (
    ANSWERS,
    IMAGE_KEYS,
    read_answers,
    read_result,
    write_result,
)
from resnet_demo.evaluation.tta import VIEWS, apply_view, mean_logits
from resnet_demo.files import write_atomically
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.embeddings import folded_network
from resnet_demo.inference.predict import (
    MappedImages,
    OnBatch,
    evaluation_batch_size,
    load_split,
    predict,
)
from resnet_demo.models.description import predictions_sha256
from resnet_demo.models.device import pick_device
from resnet_demo.runs.dataset import describe_images
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import share_text

ARTICLE_BATCH = 64  # images; in training mode, the images of a batch affect each other
SHUFFLE_SEED = 42  # the tutorial's; another order gives another score


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of a run on a split.

    result: metrics, ready for JSON, with the keys `stored_results.EVALUATION_KEYS`. logits: (N, C)
    float32. labels: (N,) int64, the true classes.
    """

    result: dict[str, Any]
    logits: Tensor
    labels: Tensor

    def save(self, folder: Path) -> None:
        """Write answers.safetensors, then result.json. Raises OSError."""
        # Contiguous: safetensors refuses a slice of another tensor.
        content = safetensors.torch.save(
            {"logits": self.logits.contiguous(), "labels": self.labels.contiguous()}
        )
        write_atomically(folder / ANSWERS, content)
        # Last, because a folder with result.json is complete.
        write_result(folder, {**self.result, "answers": hashlib.sha256(content).hexdigest()})


def read_evaluation(folder: Path) -> RunEvaluation:
    """Read what `save` wrote. Raises DamagedError for missing, altered or outdated files."""
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
    """Evaluate the run's kept weights on a split of the run's dataset, or of the one named.

    Images that the run was trained on are scored like others, and counted in the result. If the
    images are not on this machine, the predictions stored with the weights are used, and `stored`
    in the result is true. The validation score of a cross-validated run is that of its
    cross-validation, and `folds` in the result is the number of its parts. In a mode other than
    plain (see `modes`), the plain score is computed too, as `beside`. on_batch(done, total) is
    called after each batch; every view of an image counts as an image. It may raise StoppedError.

    Raises:
        ConfigError: an unknown split or mode, or a dataset with other classes.
        NotFoundError: no weights, or neither images nor stored predictions.
        DamagedError: the weights or the stored predictions are damaged.
    """
    # Before the weights are loaded, so that a mistake in the request is answered at once.
    check_split(split)
    check_mode(mode)
    classifier, name = Classifier.load(run), dataset or run.config().dataset
    check_images(mode, name, datasets)
    if is_cross_validation(run, datasets, split, name):
        return cross_validation(classifier, datasets, mode)
    saved = classifier.saved
    stored = name not in datasets.names() and predictions_sha256(saved.metrics, split, name)
    if stored:
        logits, labels = read_predictions(run.path, saved, split, name)
        # Without the images, nothing can be compared with what the run was trained on.
        plain, images = None, dict.fromkeys(IMAGE_KEYS)
        count = saved.metrics["predictions"].get("trained_on_pictures")
        images["trained_on_pictures"] = count  # counted when the run was packed
    else:
        logits, plain, labels = predict_mode(classifier, datasets, split, name, mode, on_batch)
        images = describe_images(run, datasets, split, name)
    result = {
        "run": run.id,
        "dataset": name,
        "split": split,
        "weights": saved.sha256,
        **images,
        "mode": mode,
        "stored": bool(stored),
        **result_metrics(logits, labels, saved.classes),
        "beside": plain_baseline(plain, labels, saved.classes),
    }
    return RunEvaluation(result, logits, labels)


def cross_validation(classifier: Classifier, datasets: Datasets, mode: str) -> RunEvaluation:
    """Return the score of the run's cross-validation, in place of one on images it has seen.

    Raises ConfigError for a run of an older version, which kept no predictions, and for a mode
    other than plain; DamagedError.
    """
    run, saved = classifier.run, classifier.saved
    config = run.config()
    predictions = read_cross_validation(run.path, saved.metrics)
    if predictions is None:
        top1 = saved.metrics["val_top1"]
        raise no_validation_images(
            run, f"its accuracy is {share_text(top1, 2)} in {config.folds} parts"
        )
    if mode != "plain":
        rule = "plain on the validation split of a cross-validated run"
        raise ConfigError.rule("mode", rule, mode)
    logits, labels = predictions
    images = dict.fromkeys(IMAGE_KEYS)
    if config.dataset in datasets.names():
        images = describe_images(run, datasets, "val", config.dataset)
    result = {
        "run": run.id,
        "dataset": config.dataset,
        "split": "val",
        "weights": saved.sha256,
        **images,
        # Each image was predicted by a head that was not trained on it.
        "trained_on_pictures": 0,
        "folds": config.folds,
        "mode": mode,
        "stored": False,
        **result_metrics(logits, labels, saved.classes),
        "beside": None,
    }
    return RunEvaluation(result, logits, labels)


def result_metrics(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Compute all metrics of logits (N, C) for the true labels (N,), N ≥ 1, ready for JSON."""
    scores = score(logits, labels, classes).to_dict()
    # Counted, not top1 times n: the interval needs a whole number.
    correct = sum(scores["confusion"][number][number] for number in range(len(classes)))
    return {
        "n": scores["n"],
        "top1": scores["top1"],
        "interval": [*wilson_interval(correct, scores["n"])],
        "top5": scores["top5"],
        "loss": scores["loss"],
        "macro_f1": macro_f1(scores["confusion"]),
        "confusion": scores["confusion"],
        "per_class": scores["per_class"],
        "calibration": asdict(calibration(logits, labels)),
        "histogram": asdict(confidence_histogram(logits, labels)),
    }


def plain_baseline(
    plain: Tensor | None, labels: Tensor, classes: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return top-1 and loss of the plain logits, to compare another mode with; None without."""
    if plain is None:
        return None
    scores = score(plain, labels, classes).to_dict()
    return {"mode": "plain", "top1": scores["top1"], "loss": scores["loss"]}


def predict_split(
    classifier: Classifier, datasets: Datasets, split: str, name: str
) -> tuple[Tensor, Tensor]:
    """Return plain logits (N, C) float32 and labels (N,) of a split. Raises as evaluate_run."""
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
    """Return logits (N, C) float32 in a mode, the plain logits unless it is plain, and labels."""
    classifier.check_classes(datasets.get(name))
    images, labels = load_split(classifier.run, datasets, split, name)
    # Two for the article's mode: the plain score is computed too, to compare with.
    passes = 2 if mode == "article" else len(VIEWS[mode])
    predictor = SplitPredictor.of(classifier, images, passes, on_batch)
    if mode == "article":
        plain = predictor.predict_view(0)
        return predictor.predict_as_article(1), plain, labels
    logits = [
        predictor.predict_view(number, steps) for number, (_, steps) in enumerate(VIEWS[mode])
    ]
    # The first view of every mode is the plain image.
    return mean_logits(logits, mode), logits[0] if mode != "plain" else None, labels


@dataclass(frozen=True)
class SplitPredictor:
    """A network on its device that predicts the same images `passes` times, with progress."""

    model: nn.Module
    folded: nn.Module  # computes the same, faster; without BatchNorm
    preprocessing: Preprocessing
    images: Tensor | MappedImages  # (N, H, W, 3) uint8
    passes: int
    on_batch: OnBatch | None

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        images: Tensor | MappedImages,
        passes: int,
        on_batch: OnBatch | None,
    ) -> "SplitPredictor":
        """Return a predictor of images (N, H, W, 3) uint8, with its network on the device."""
        device = pick_device()
        model = classifier.saved.model.to(device, memory_format=torch.channels_last)
        folded = folded_network(model, classifier.preprocessing.image_size, device)
        # Mapped images are moved batch by batch: all of them may be more than the memory holds.
        images = images.to(device) if isinstance(images, Tensor) else images
        return cls(model, folded, classifier.preprocessing, images, passes, on_batch)

    def predict_view(self, number: int, steps: tuple = ()) -> Tensor:
        """Return the logits (N, C) of a view of each image. number: of the pass, from 0."""
        return self._predict(
            self.folded,
            number,
            lambda batch: self.preprocessing.prepare(apply_view(batch, steps)),
            batch_size=evaluation_batch_size(self.preprocessing),
        )

    def predict_as_article(self, number: int) -> Tensor:
        """Return the logits in training mode over shuffled batches, in the order of the images.

        This reproduces the tutorial's test.
        """
        order = torch.randperm(
            len(self.images), generator=torch.Generator().manual_seed(SHUFFLE_SEED)
        )
        if isinstance(self.images, MappedImages):
            shuffled = replace(self, images=self.images.reordered(order))
        else:
            shuffled = replace(self, images=self.images[order.to(self.images.device)])
        logits = shuffled._predict(
            copy.deepcopy(self.model),  # training mode changes the running statistics
            number,
            self.preprocessing.prepare,
            batch_size=ARTICLE_BATCH,
            training_mode=True,
        )
        return logits[order.argsort()]  # argsort inverts the permutation

    def _predict(self, model: nn.Module, number: int, prepare: Any, **options: Any) -> Tensor:
        """Return logits (N, C), with the progress over all passes. number: of this pass, from 0."""
        n = len(self.images)

        def report(done: int, _: int) -> None:
            if self.on_batch is not None:
                self.on_batch(number * n + done, self.passes * n)

        return predict(model, prepare, self.images, on_batch=report, **options)
