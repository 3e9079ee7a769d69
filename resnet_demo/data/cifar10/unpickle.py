"""Reading a pickle of byte arrays without trusting it.

A pickle is a program: it imports functions by name and calls them. Here each allowed name leads to
a harmless replacement below, also numpy's own functions, and any other name ends the reading before
anything is called. No torch here.
"""

import io
import pickle
from typing import Any

import numpy as np

from resnet_demo.errors import DamagedError, shortened


def load_untrusted_pickle(data: bytes, name: str) -> dict[str, Any]:
    """Return the dict in a pickle of Python 2 or 3, its keys as text, its arrays as uint8.

    name: the file's name in messages. Raises DamagedError.
    """
    try:
        values = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {_to_text(key): _to_array(value) for key, value in values.items()}
    except DamagedError as error:
        raise DamagedError(f"{name} is refused: {error}") from error
    except Exception as error:  # a torn or altered pickle raises many types
        raise DamagedError(f"{name} is cut short or damaged") from error


class _Array:
    """Replaces numpy's array: accepts the state that numpy writes, of bytes only."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, _, column_first, raw = state
        order = "F" if column_first else "C"
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _ByteType:
    """Replaces numpy's dtype: only uint8. Arrays of objects would hold further pickles."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise DamagedError(f"its arrays have the type {shortened(code)}, not bytes")

    def __setstate__(self, state: tuple) -> None:
        pass  # byte order and alignment, which bytes do not have


def _reconstruct(*_: Any) -> _Array:
    return _Array()  # numpy passes an empty shape here; the real one comes with the state


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes for Python 2 as text to encode. The codec's name is ignored: a pickle
    # cannot choose another one.
    return text.encode("latin1")


REPLACEMENTS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # since numpy 2
    ("numpy", "ndarray"): "only used as an argument",
    ("numpy", "dtype"): _ByteType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name. Raises DamagedError for any other name."""
        if (module, name) not in REPLACEMENTS:
            raise DamagedError(f"it uses {shortened(f'{module}.{name}')}, which is not allowed")
        return REPLACEMENTS[module, name]


def _to_text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _to_array(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
