"""Other people's words in Markdown: names of classes, messages of errors."""

import re

MARKS = re.compile(r"([\\`*_\[\]<>!&~|$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
LINES = re.compile(r"\s*[\r\n]\s*")


def literal(text: str) -> str:
    """Markdown that shows `text` to the letter, in one line.

    gr.Markdown runs no script, but would fetch a picture from anywhere, and makes a link of all
    that looks like an address.
    """
    return MARKS.sub(r"\\\1", LINES.sub(" ", text))
