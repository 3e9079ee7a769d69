"""Networks by name. Importing this package does not import torch, which `counts` can do without."""


def __getattr__(name: str) -> object:
    """Return `build_model`, importing torch on first use (PEP 562)."""
    if name == "build_model":
        from resnet_demo.models.zoo import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
