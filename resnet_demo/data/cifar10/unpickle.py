"""Reading a pickle of byte arrays without trusting it.

A pickle is a program: it names functions and calls them. Here every name it may use leads to a
stand-in of ours, and any other ends the reading. No torch here.
"""

import io
import pickle
from typing import Any

import numpy as np

from resnet_demo.errors import DamagedError, shortened


def load_untrusted_pickle(data: bytes, name: str) -> dict[str, Any]:
    """The dict in a pickle of Python 2 or 3, its keys as text; arrays in it are uint8.

    name: what to call it in messages. Raises DamagedError.
    """
    try:
        values = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {_text(key): _plain(value) for key, value in values.items()}
    except DamagedError as error:
        raise DamagedError(f"{name} is refused: {error}") from error
    except Exception as error:  # a torn or altered pickle raises what it likes
        raise DamagedError(f"{name} is cut short or damaged") from error


class _Array:
    """Stands in for numpy's array: takes the state that numpy writes, of bytes only."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, _, column_first, raw = state
        order = "F" if column_first else "C"
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _Bytes:
    """Stands in for the number type of an array."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise DamagedError(f"it holds numbers of type {shortened(code)}")

    def __setstate__(self, state: tuple) -> None:
        pass  # byte order and the like


def _reconstruct(*_: Any) -> _Array:
    return _Array()  # numpy passes an empty shape; the true one comes with the state


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")  # how Python 3 writes bytes that Python 2 can read


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # since numpy 2
    ("numpy", "ndarray"): "only ever an argument",
    ("numpy", "dtype"): _Bytes,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name. Raises DamagedError for any other."""
        if (module, name) not in _STAND_INS:
            raise DamagedError(f"it asks for {shortened(f'{module}.{name}')}")
        return _STAND_INS[module, name]


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
