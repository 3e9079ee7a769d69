"""Where in an image a class was seen: maps as coarse as the network's own, and those enlarged."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.inference.hooks import evaluating, outputs_of
from resnet_demo.models.layers import Network

LEAST_SIDE = 3  # pixels of a map; with fewer there is no middle, and hardly a where


@torch.no_grad()
def class_maps(features: Tensor, head: nn.Linear, classes: Tensor) -> Tensor:
    """Class activation maps (Zhou et al. 2016, section 2, eq. 2) of a network that ends in a mean.

    features (B, C, H, W), what `Network.features` gave; classes (B, K) int64, those wanted of each
    image -> (B, K, H, W), of either sign. A map's mean plus the class's bias is its logit.
    """
    return torch.einsum("bchw,bkc->bkhw", features, head.weight[classes.to(features.device)])


def grad_cam(model: Network, x: Tensor, classes: Tensor, stage: str | None = None) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, section 3): of any network, after any stage.

    x (B, 3, H, W) normalized, classes (B, K) int64 -> (B, K, h, w), before the ReLU of eq. 2, which
    `heat` has. Each channel is weighed by the mean of the logit's gradient over its pixels (eq. 1).
    After the last stage, before a mean and a linear layer, these are `class_maps` divided by h w.
    stage: a name; None: the last one whose map has LEAST_SIDE pixels a side, for vgg16 leaves one
    pixel of a small image. Needs a network that names its stages.
    Works within inference_mode too, and leaves no gradients behind.
    """
    names = model.stage_names if stage is None else (stage,)
    with torch.inference_mode(False), evaluating(model):
        with outputs_of(model, names) as outputs:
            # clones: what inference_mode made outside can have no part in a gradient
            logits = model(x.clone().requires_grad_())
        activation = outputs[stage or last_readable(outputs)]
        weights = _mean_gradients(logits, activation, classes.clone().to(logits.device))
        return torch.einsum("bkc,bchw->bkhw", weights, activation.detach())


@torch.no_grad()
def where(model: Network, x: Tensor, classes: Tensor) -> Tensor:
    """The sharper way for this network: maps (B, K, h, w) of any sign, for `heat`.

    x (B, 3, H, W) normalized, classes (B, K) int64. Class activation maps where the network ends in
    a mean and a linear layer and its last map has LEAST_SIDE pixels a side, else Grad-CAM.
    """
    if type(model).forward is Network.forward:  # the end that class activation maps need
        with evaluating(model):
            features = model.features(x)
        if min(features.shape[2:]) >= LEAST_SIDE:
            return class_maps(features, model.head, classes)
    return grad_cam(model, x, classes)


def last_readable(outputs: dict[str, Tensor]) -> str:
    """The last of the stages whose maps are large enough, else the first. One at least."""
    large = [name for name, maps in outputs.items() if min(maps.shape[2:]) >= LEAST_SIDE]
    return large[-1] if large else next(iter(outputs))


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """(…, h, w) -> (…, height, width) float32, bilinear."""
    flat = maps.float().reshape(-1, 1, *maps.shape[-2:])
    flat = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return flat.reshape(*maps.shape[:-2], height, width)


def heat(maps: Tensor, side: int) -> Tensor:
    """(…, h, w) of any sign -> (…, side, side) from 0 to 1, to lay over the square it is of.

    Enlarged; then what speaks against the class becomes 0, and each map is divided by its own
    largest number. A map that is 0 or less stays 0 all over; NaN and infinity count as 0.
    """
    positive = enlarged(maps.float().nan_to_num(0, 0, 0), side, side).clamp(min=0)
    largest = positive.amax((-2, -1), keepdim=True)
    return positive / largest.clamp(min=torch.finfo(torch.float32).tiny)


def _mean_gradients(logits: Tensor, activation: Tensor, classes: Tensor) -> Tensor:
    """(B, K, C): of each wanted logit, by each channel. One way back for each of the K."""
    return torch.stack(
        [
            # the images' logits may be summed: in evaluation mode none depends on another image
            torch.autograd.grad(
                logits.gather(1, wanted[:, None]).sum(), activation, retain_graph=True
            )[0].mean((2, 3))
            for wanted in classes.unbind(1)
        ],
        dim=1,
    )
