"""The zoo: from a name to a network. The names are those of `config.MODELS`."""

from functools import partial

from torch import nn

from resnet_demo.config import DEPTHS
from resnet_demo.models.names import check_names
from resnet_demo.models.resnet import cifar_resnet, resnet18, resnet34, resnet34_article, resnet50
from resnet_demo.models.resnet9 import DEEP, WIDE, resnet9
from resnet_demo.models.vgg import vgg16

CHOOSING_STEM = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
OTHERS = {
    "resnet9": resnet9,
    "resnet9-wide": partial(resnet9, widths=WIDE),
    "resnet11": partial(resnet9, widths=WIDE, residuals=DEEP),
    "resnet34-article": resnet34_article,
    "vgg16": vgg16,
    **{
        f"resnet{depth}": partial(cifar_resnet, depth=depth, shortcut="padding") for depth in DEPTHS
    },
    **{f"plain{depth}": partial(cifar_resnet, depth=depth, shortcut="none") for depth in DEPTHS},
}


def build_model(
    name: str, num_classes: int = 10, *, stem: str = "small", batch_norm: bool = True
) -> nn.Module:
    """The network of that name with fresh weights: (B, 3, H, W) -> logits (B, num_classes).

    stem: for resnet18, 34 and 50; the others have their own and pass over it.
    Raises ConfigError for a name or a stem that is not there.
    """
    check_names(name, stem)
    if name in CHOOSING_STEM:
        return CHOOSING_STEM[name](num_classes, stem=stem, batch_norm=batch_norm)
    return OTHERS[name](num_classes, batch_norm=batch_norm)
