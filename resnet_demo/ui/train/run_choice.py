"""A choice of runs that grows while a page is open."""

from typing import Any

import gradio as gr


class RunChoice(gr.Dropdown):
    """As gr.Dropdown. Which runs there are the store says, not what Gradio once told this page."""

    is_template = True  # drawn in the browser as gr.Dropdown is

    def preprocess(self, payload: Any) -> str | None:
        """The id that was chosen, of a run that is there or not. Raises gr.Error."""
        if payload is not None and not isinstance(payload, str):
            raise gr.Error(f"run must be an id, got {payload!r:.100}", print_exception=False)
        return payload
