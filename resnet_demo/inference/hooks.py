"""Looking into a network from outside: what its submodules put out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode inside; the model's own mode is back afterwards, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Filled, while the model runs inside, with what the submodules of these names put out.

    Name -> tensor, in the order in which they ran. Raises AttributeError for a name that is not
    there. No hook is left behind.
    """
    outputs: dict[str, Tensor] = {}
    modules, handles = [(name, model.get_submodule(name)) for name in names], []
    try:
        for name, module in modules:
            handles.append(module.register_forward_hook(_keep(outputs, name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep(outputs: dict[str, Tensor], name: str) -> object:
    def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
        outputs[name] = output

    return hook
