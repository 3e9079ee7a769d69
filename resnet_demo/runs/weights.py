"""The weights that a run starts from: ImageNet's, or those of another run. No torch here."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from resnet_demo.architectures import STEM_CHOICE_MODELS
from resnet_demo.config import INITIAL, TrainConfig
from resnet_demo.data.info import Triple
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.json_files import build, read_json
from resnet_demo.models.description import model_description
from resnet_demo.models.pretrained import check_available, imagenet_weights
from resnet_demo.paths import Paths
from resnet_demo.runs.store import CONFIG, Run, Runs

RANDOM, IMAGENET = "random", "imagenet"


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a run started from, as its config.json and model.json record them.

    source: `imagenet`, or a run's id or directory. sha256: of the file of weights. mean, std: of
    the preprocessing that they were learned with, on the 0..1 scale.
    """

    source: str
    sha256: str
    mean: Triple
    std: Triple

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def source_run(config: TrainConfig, paths: Paths) -> Run | None:
    """Return the run that a config's weights come from; None where they are not a run's.

    Raises ConfigError, which names the rule, for anything but a run.
    """
    if config.weights in (RANDOM, IMAGENET):
        return None
    try:
        return Runs(paths).find(config.weights)
    except (ConfigError, NotFoundError) as error:
        rule = "random, imagenet, or the id or directory of a run on this machine"
        raise ConfigError.rule("weights", rule, config.weights) from error


def find_weights(config: TrainConfig, paths: Paths) -> InitialWeights | None:
    """Return the weights that a new run starts from; None for random ones.

    Raises ConfigError for a run of another network and for what is no run, NotFoundError for
    weights that are not on this machine, DamagedError.
    """
    run = source_run(config, paths)
    if run is None:
        if config.weights == RANDOM:
            return None
        # Before a run exists: without the file it would fail in its worker.
        check_available(config.model, paths.weights)
        weights = imagenet_weights(config.model)
        return InitialWeights(IMAGENET, weights.sha256, weights.mean, weights.std)
    description = model_description(run.path)
    check_network(config, run.id, description["network"])
    try:
        # The layers expect pictures as they learned them, whatever the mean of the new dataset is.
        mean, std = (tuple(description["preprocessing"][name]) for name in ("mean", "std"))
    except (KeyError, TypeError) as error:
        raise DamagedError(f"the preprocessing in model.json of {run.id} is incomplete") from error
    return InitialWeights(config.weights, description["sha256"], mean, std)


def check_network(config: TrainConfig, run_id: str, network: dict[str, Any]) -> None:
    """Raise ConfigError unless the network of a run's weights is that of the config."""
    needed = {"model": network["name"], "batch_norm": network["batch_norm"]}
    # Other networks have one stem only, whatever the config says.
    if config.model in STEM_CHOICE_MODELS:
        needed["stem"] = network["stem"]
    for name, value in needed.items():
        if getattr(config, name) != value:
            text = str(value).lower() if isinstance(value, bool) else value
            rule = f"{text}, as in the weights of {run_id}"
            raise ConfigError.rule(name, rule, getattr(config, name))


def with_resolved_weights(config: TrainConfig, paths: Paths) -> TrainConfig:
    """Return the config with its run of weights as an id where it has one here.

    A run elsewhere keeps its whole path. Raises as `find_weights`.
    """
    find_weights(config, paths)
    run = source_run(config, paths)
    if run is None:
        return config
    try:
        # Another run here may have the name of one elsewhere.
        is_listed = Runs(paths).get(run.id).path == run.path
    except (ConfigError, NotFoundError):
        is_listed = False
    return replace(config, weights=run.id if is_listed else str(run.path))


def check_is_id(config: TrainConfig) -> None:
    """Raise ConfigError for weights named by a path, which only the command line may do."""
    # A visitor of the page must not name folders of the server.
    if "/" in config.weights:
        rule = "random, imagenet, or the id of a run on this machine"
        raise ConfigError.rule("weights", rule, config.weights)


def recorded_weights(run: Run) -> InitialWeights | None:
    """Return the weights that a run started from; None for random ones. Raises DamagedError."""
    try:
        values = read_json(run.path / CONFIG).get(INITIAL)
        # A file of an older version, without the entry, is of a run from random weights.
        return None if values is None else build(InitialWeights, values, complete=True)
    except (DamagedError, ValueError, AttributeError) as error:
        raise DamagedError(f"config.json of run {run.id} is damaged") from error
