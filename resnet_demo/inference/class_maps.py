"""Class maps: which parts of a picture raise the logit of a class (CAM and Grad-CAM)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resnet_demo.data.pictures import shrink_to_side
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError
from resnet_demo.fingerprint import class_names
from resnet_demo.inference.classification import network_input
from resnet_demo.inference.feature_maps import record_outputs
from resnet_demo.inference.heatmaps import heatmap, place_on_picture
from resnet_demo.inference.predict import model_mode
from resnet_demo.models.layers import Network
from resnet_demo.models.saved import SavedModel

MIN_MAP_SIDE = 3  # pixels; a smaller map hardly locates anything
MAX_SIDE = 1024  # pixels; a larger picture is reduced before it is shown with its heat


@dataclass(frozen=True)
class ClassMap:
    """The map of one class over a picture.

    picture: (h, w, 3) uint8, at most MAX_SIDE a side. heat: (h, w) float32 from 0 to 1. coarse:
    the map at the network's own resolution, rows of numbers from 0 to 1.
    """

    picture: np.ndarray
    heat: Tensor
    coarse: list[list[float]]


def map_classes(
    saved: SavedModel, rgb: np.ndarray, labels: Sequence[str], fit: str | None = None
) -> list[ClassMap]:
    """Return a map for each label, from one forward pass.

    rgb: (H, W, 3) uint8 of any size. fit: None for that of the training images. The heat is 0
    everywhere where nothing raises the class's logit. Raises ConfigError for a label that is not a
    class of the network, and for an unknown fit.
    """
    classes = torch.tensor([[class_index(saved, label) for label in labels]])
    fit = fit or Preprocessing.from_dict(saved.preprocessing).fit
    seen, x = network_input(saved, rgb, fit)
    maps = class_maps(saved.model, x, classes)[0].cpu()  # (K, h, w)
    # The heat is a float per pixel: of a photograph of 50 megapixels it would take 200 MB.
    picture = shrink_to_side(rgb, MAX_SIDE)
    heats = place_on_picture(heatmap(maps, len(seen)), *picture.shape[:2], fit)  # (K, H, W)
    coarse = heatmap(maps, maps.shape[-1]).tolist()  # at the map's own side: nothing is enlarged
    return [ClassMap(picture, heat, numbers) for heat, numbers in zip(heats, coarse, strict=True)]


def class_index(saved: SavedModel, label: str) -> int:
    """Return a class's index. Raises ConfigError for an unknown label."""
    if label not in saved.classes:
        raise ConfigError.rule("label", f"one of {class_names(saved.classes)}", label)
    return saved.classes.index(label)


@torch.no_grad()
def class_maps(model: Network, x: Tensor, classes: Tensor) -> Tensor:
    """Return maps (B, K, h, w) of any sign, by the method that suits the network.

    x: (B, 3, H, W), normalized. classes: (B, K) int64. CAM where the network ends in a global mean
    and a linear layer and its last map has at least MIN_MAP_SIDE pixels a side, else Grad-CAM. Use
    `heatmap` to scale the result.
    """
    # A network that overrides `forward` may not end in the mean and linear layer that CAM needs.
    if type(model).forward is Network.forward:
        with model_mode(model):
            features = model.features(x)
        if min(features.shape[2:]) >= MIN_MAP_SIDE:
            return cam(features, model.head, classes)
    return grad_cam(model, x, classes)


@torch.no_grad()
def cam(features: Tensor, head: nn.Linear, classes: Tensor) -> Tensor:
    """Return class activation maps (Zhou et al. 2016, section 2, eq. 2), of either sign.

    features: (B, C, H, W), the output of `Network.features`. classes: (B, K) int64, the wanted
    classes of each image. Return (B, K, H, W); a map's mean plus the class's bias is its logit.
    """
    return torch.einsum("bchw,bkc->bkhw", features, head.weight[classes.to(features.device)])


def grad_cam(model: Network, x: Tensor, classes: Tensor, stage: str | None = None) -> Tensor:
    """Return Grad-CAM maps (B, K, h, w) after any stage (Selvaraju et al. 2017, section 3).

    x: (B, 3, H, W), normalized. classes: (B, K) int64. Each channel is weighted by the mean of the
    logit's gradient over its pixels (eq. 1). The ReLU of eq. 2 is left to `heatmap`. After the last
    stage of a network that ends in a mean and a linear layer this is `cam` divided by h w.
    stage: a name; None: the last stage whose map has MIN_MAP_SIDE pixels a side. The network must
    name its stages. Works inside inference_mode too, and leaves no gradients on the parameters.
    """
    names = model.stage_names if stage is None else (stage,)
    # inference_mode(False) also turns gradients on, inside no_grad too.
    with torch.inference_mode(False), model_mode(model):
        with record_outputs(model, names) as outputs:
            # Autograd refuses tensors made in inference_mode, so it gets clones.
            logits = model(x.clone().requires_grad_())
        # The sizes of the maps are known only after a forward pass.
        activation = outputs[stage or last_large_stage(outputs)]
        # (B, K, C)
        weights = _mean_gradients(logits, activation, classes.clone().to(logits.device))
        return torch.einsum("bkc,bchw->bkhw", weights, activation.detach())


def last_large_stage(outputs: dict[str, Tensor]) -> str:
    """Return the last stage with a map of MIN_MAP_SIDE pixels a side, else the first stage.

    `vgg16` leaves one pixel of a small image after its last stage.
    """
    large = [name for name, maps in outputs.items() if min(maps.shape[2:]) >= MIN_MAP_SIDE]
    return large[-1] if large else next(iter(outputs))


def _mean_gradients(logits: Tensor, activation: Tensor, classes: Tensor) -> Tensor:
    """Return (B, K, C): the mean gradient of each wanted logit by each channel.

    One backward pass for each of the K classes.
    """
    gradients = []
    for wanted in classes.unbind(1):
        # The images' logits may be summed: in evaluation mode none depends on another image.
        total = logits.gather(1, wanted[:, None]).sum()
        # Not backward(): it would leave gradients on the parameters of a shared network.
        (gradient,) = torch.autograd.grad(total, activation, retain_graph=True)
        gradients.append(gradient.mean((2, 3)))
    return torch.stack(gradients, dim=1)
