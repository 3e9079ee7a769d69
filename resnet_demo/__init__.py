"""ResNet Demo: train residual networks from the browser, and understand them."""

__version__ = "0.1.0"
