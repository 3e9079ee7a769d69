"""ZeroGPU lends a GPU for seconds: how a slice gets one."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from resnet_demo.events import Event
from resnet_demo.hosting.zerogpu.slice import SliceError, train_slice
from resnet_demo.hosting.zerogpu.slices import Slice
from resnet_demo.paths import Paths


def on_zero() -> Slice:
    """A slice as ZeroGPU runs it; it raises SliceError with the platform's own sentence.

    To be called before anything touches CUDA, of which `spaces` puts up a picture in this process.
    """
    import spaces  # there only: elsewhere nobody needs it

    @spaces.GPU(duration=lambda folder, paths, seconds: round(seconds))
    def on_gpu(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        yield from train_slice(folder, paths, seconds)

    def told(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        try:
            yield from on_gpu(folder, paths, seconds)
        except gr.Error as error:
            raise SliceError(str(error.message).rstrip(".")) from error

    return told
