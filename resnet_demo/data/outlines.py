"""Ten shapes as functions of the plane: how far a point is from the outline, negative inside.

x to the right, y up, every shape about as large as the circle of radius 1; any arrays of one
shape go in and one comes out. Good near the outline, where it decides how much of a pixel is
covered; after Inigo Quilez, "2D distance functions".
"""

from collections.abc import Callable

import numpy as np

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.88


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.2


def _semicircle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y + 0.45) - 1, -0.45 - y)


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 0.95, 0.78 - np.hypot(x - 0.45, y))


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(x, y, 0.76, 0.76)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    slope = np.abs(x) * np.sqrt(np.float32(3)) / 2 + y / 2  # the two upper edges, folded into one
    return np.maximum(slope, -y) - 0.5


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    head = np.maximum((np.abs(x) + y) * np.sqrt(np.float32(0.5)) - 0.68, -y)
    return np.minimum(head, _box(x, y + 0.45, 0.24, 0.5))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    half = np.sqrt(np.float32(0.5))
    u, v = (np.abs(x) + y + 0.15) * half, (y + 0.15 - np.abs(x)) * half
    tip = np.maximum(np.abs(u), np.abs(v)) - 0.55  # a square on its corner, and a disc on an edge
    return np.minimum(tip, np.hypot(u - 0.55, v) - 0.55)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: folded into a tenth of the plane, where the outline is one straight line."""
    tenth, inner = np.pi / 5, 0.42
    angle = np.abs((np.arctan2(x, y) + tenth) % (2 * tenth) - tenth)
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    edge = np.array([1 - inner * np.cos(tenth), inner * np.sin(tenth)])  # from valley to tip
    edge /= np.hypot(*edge)
    return (along - 1) * np.float32(edge[1]) + across * np.float32(edge[0])


OUTLINES: dict[str, Outline] = {
    "arrow": _arrow,
    "circle": _circle,
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "ring": _ring,
    "semicircle": _semicircle,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
