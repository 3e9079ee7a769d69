"""Measuring: how fast a network trains here, against what, and what the machine could do."""
