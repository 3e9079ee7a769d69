"""Colours and type: system fonts, so that nothing is fetched from anywhere."""

from pathlib import Path

import gradio as gr

CSS = Path(__file__).with_name("page.css")


def theme() -> gr.themes.Base:
    """Blue on grey, the plots' own blue, in light and dark."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    )
