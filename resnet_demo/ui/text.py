"""Other people's words on the page: names of classes, messages of errors."""

import re

MARKS = re.compile(r"([\\`*_\[\]<>!&~|$])")


def literal(text: str) -> str:
    """Markdown that shows `text` to the letter.

    gr.Markdown runs no script, but would fetch a picture from anywhere.
    """
    return MARKS.sub(r"\\\1", text)
