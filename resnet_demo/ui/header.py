"""What stands above the tabs: the title, and in which of its ways the app runs."""

import gradio as gr

from resnet_demo.hosting.access import Access
from resnet_demo.hosting.login_page import PATH
from resnet_demo.runs.text import escape_markdown
from resnet_demo.tasks.caller import Caller

TITLE = """# ResNet Demo
Train a residual network, watch it learn, measure it, and show it your own pictures."""
LOCAL = "**Local**: whoever reaches this page may do everything here."
OPEN = "**Open to everybody**: watch, classify, evaluate, learn."
CLOSED = (
    f"{OPEN} **Nothing can be changed here**: no owner is set up. To train, run it on your own "
    "machine{or_duplicate}."
)
LOGIN = f"{OPEN} To train, stop, delete or import, sign in as its owner."
TOKEN = f"{OPEN} To train, stop, delete or import, [sign in as its owner](.{PATH})."
OWNER = "**Open to everybody, and you are signed in as its owner**: you may do everything."
STRANGER = f"{OPEN} You are signed in as {{name}}, who may not change anything here."


def header(access: Access) -> gr.Markdown:
    """Build it; the line on the way, which `way_words` fills for who opens the page."""
    gr.Markdown(TITLE, elem_id="title")
    line = gr.Markdown(elem_id="way", elem_classes=["hint"])
    with gr.Row(visible=access.public and access.space is not None, elem_id="sign-in"):
        if access.way == "login":
            gr.LoginButton(size="sm", scale=0, min_width=220)
        elif access.space is not None:
            gr.DuplicateButton("Duplicate this Space", min_width=220)
    return line


def way_words(access: Access, caller: Caller) -> str:
    """In which way the app runs, and what this person may do (Markdown)."""
    if access.way == "local":
        return LOCAL
    if caller.is_owner:
        return f"{OWNER} [Sign out](.{PATH})" if access.way == "token" else OWNER
    if access.way == "token":
        return TOKEN
    if access.way == "closed":
        return CLOSED.format(or_duplicate=", or duplicate the Space" if access.space else "")
    return (
        STRANGER.format(name=f"**{escape_markdown(caller.name)}**") if caller.signed_in else LOGIN
    )
