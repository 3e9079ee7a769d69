"""Build networks by name. The names are those of `architectures.MODELS`."""

from collections.abc import Callable
from functools import partial

from torch import nn

from resnet_demo.architectures import CIFAR_DEPTHS, STEM_CHOICE_MODELS, check_architecture
from resnet_demo.models.efficientnet import efficientnet_lite0
from resnet_demo.models.resnet import cifar_resnet, resnet18, resnet34, resnet34_article, resnet50
from resnet_demo.models.resnet9 import DEEP, WIDE, resnet9
from resnet_demo.models.vgg import vgg16

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet9": resnet9,
    "resnet9-wide": partial(resnet9, widths=WIDE),
    "resnet11": partial(resnet9, widths=WIDE, residuals=DEEP),
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet34-article": resnet34_article,
    "vgg16": vgg16,
    "efficientnet-lite0": efficientnet_lite0,
    **{
        # Shortcuts without parameters (He et al. 2015, option A): plain networks have exactly as
        # many.
        f"resnet{depth}": partial(cifar_resnet, depth=depth, shortcut="padding")
        for depth in CIFAR_DEPTHS
    },
    **{
        f"plain{depth}": partial(cifar_resnet, depth=depth, shortcut="none")
        for depth in CIFAR_DEPTHS
    },
}


def build_model(
    name: str, num_classes: int = 10, *, stem: str = "small", batch_norm: bool = True
) -> nn.Module:
    """Return the named network with fresh weights: (B, 3, H, W) -> logits (B, num_classes).

    stem: for resnet18, 34 and 50; the other networks have a fixed stem and ignore it.
    Raises: ConfigError for an unknown name or stem.
    """
    check_architecture(name, stem)
    # The other builders take no stem.
    choices = {"stem": stem} if name in STEM_CHOICE_MODELS else {}
    return BUILDERS[name](num_classes, batch_norm=batch_norm, **choices)
