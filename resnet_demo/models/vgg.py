"""VGG16, a deep network without shortcuts (Simonyan & Zisserman 2014, configuration D)."""

from torch import Tensor, nn

from resnet_demo.models.layers import LayerOptions, Network, he_init

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


class VGG(Network):
    """Thirteen 3x3 convolutions with BatchNorm and ReLU; every stage ends in a 2x2 max-pool.

    The original has three linear layers (120 million parameters) for images of 224 pixels. The map
    of a small image ends as one pixel, for which one linear layer is enough.
    """

    def __init__(self, num_classes: int, layers: LayerOptions) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        c_in = 3
        for width, convolutions in STAGES:
            stage = nn.Sequential()
            for number in range(1, convolutions + 1):
                stage.add_module(f"conv{number}", layers.conv(c_in, width, 3))
                stage.add_module(f"bn{number}", layers.norm(width))
                stage.add_module(f"relu{number}", nn.ReLU())
                c_in = width
            stage.add_module("pool", nn.MaxPool2d(2))
            self.stages.append(stage)
        self.stage_names = tuple(f"stages.{number}" for number in range(len(STAGES)))
        self.head = nn.Linear(c_in, num_classes)  # after the mean over pixels: (B, 512)

    def features(self, x: Tensor) -> Tensor:
        """Return the last feature map: (B, 3, H, W) -> (B, 512, H/32, W/32), rounded down."""
        return self.stages(x)


def vgg16(num_classes: int, *, batch_norm: bool) -> VGG:
    """Return VGG16 with He's initial weights."""
    # With PyTorch's defaults and without BatchNorm, the signal vanishes over the layers.
    model = VGG(num_classes, LayerOptions(batch_norm))
    he_init(model)
    return model
