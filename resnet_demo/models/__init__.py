"""Networks by name. Importing this package leaves torch alone: `counts` has to answer at once."""


def __getattr__(name: str) -> object:
    """`build_model` on first use, and torch with it (PEP 562)."""
    if name == "build_model":
        from resnet_demo.models.zoo import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
