"""Python code from the templates in `export/templates`: the networks' definitions, and literals."""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from resnet_demo.architectures import RESNET9_MODELS, STEM_CHOICE_MODELS
from resnet_demo.errors import is_displayable
from resnet_demo.models.resnet import CIFAR_WIDTHS
from resnet_demo.models.resnet import WIDTHS as RESNET_WIDTHS
from resnet_demo.models.resnet9 import DEEP, RESIDUALS, WIDE, WIDTHS

TEMPLATES = Path(__file__).with_name("templates")
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def template_environment(is_html: bool) -> Environment:
    """Return the environment of the templates; text is escaped in HTML."""
    # Not in code: there, what other people wrote passes `python_text` or `plain_word`.
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,  # a misspelt name fails here, not in the exported script
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=is_html,
    )


def render_code(name: str, **values: Any) -> str:
    """Return the text of a template of code."""
    return template_environment(is_html=False).get_template(name).render(values)


def python_text(text: str) -> str:
    """Return a text as Python code, in double quotes and on one line."""
    # Marks of writing direction would make the code look other than it is.
    return json.dumps(text, ensure_ascii=False) if is_displayable(text) else ascii(text)


def plain_word(text: str) -> str:
    """Return a name with nothing in it that could end a comment or a docstring."""
    return re.sub(r"[^A-Za-z0-9._-]", "?", text)


def network_values(network: dict[str, Any], image_size: int) -> dict[str, Any]:
    """Return what the templates need to define a network.

    network: arguments of build_model. image_size: side of its input in pixels.
    """
    name, batch_norm = network["name"], network["batch_norm"]
    values: dict[str, Any] = {
        "model": name,
        "article": "an" if name.startswith("e") else "a",
        "classes": network["num_classes"],
        "image_size": image_size,
        "batch_norm": batch_norm,
        "pool": "nn.AdaptiveAvgPool2d(1)",
        # EfficientNet's padding depends on whether a side that is halved is even.
        "odd_sides": image_size % 32 > 0,
    }
    if name in RESNET9_MODELS:
        widths = WIDTHS if name == "resnet9" else WIDE
        residuals = DEEP if name == "resnet11" else RESIDUALS
        return {**values, "family": "resnet9", "stages": stages(widths, residuals)}
    if name in ("vgg16", "efficientnet-lite0"):
        # The names of the templates: vgg and efficientnet.
        return {**values, "family": name.rstrip("16").removesuffix("-lite0")}
    is_article, is_large = name == "resnet34-article", name in STEM_CHOICE_MODELS
    depth = int(re.search(r"\d+", name)[0])
    if is_article or is_large:
        widths, depths = RESNET_WIDTHS, DEPTHS[f"resnet{depth}"]
    else:
        widths, depths = CIFAR_WIDTHS, ((depth - 2) // 6,) * 3
    shortcut = "none" if name.startswith("plain") else "padding"
    return {
        **values,
        "family": "resnet",
        "stages": stages(widths, depths),
        "widths": widths,
        "bottleneck": name == "resnet50",
        "shortcut": "projection" if is_article or is_large else shortcut,
        # BatchNorm has a bias of its own; the tutorial's convolutions have one nevertheless.
        "biased": is_article or not batch_norm,
        "large_stem": is_article or (is_large and network["stem"] == "imagenet"),
    }


def stages(widths: tuple[int, ...], depths: tuple[int, ...]) -> str:
    """Return the stages of a network as code: ((64, 2), (128, 2))."""
    return str(tuple(zip(widths, depths, strict=True)))
