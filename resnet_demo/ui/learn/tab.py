"""The Learn tab: seven chapters, each with a text, an experiment and its results."""

from typing import Any

import gradio as gr

from resnet_demo.ui.learn.block import block_chapter
from resnet_demo.ui.learn.bugs import bugs_chapter
from resnet_demo.ui.learn.chapter_form import chapter_text
from resnet_demo.ui.learn.duel import duel_chapter
from resnet_demo.ui.learn.gradient import gradient_chapter
from resnet_demo.ui.learn.group_panel import GroupReader
from resnet_demo.ui.learn.learning_rate import range_chapter
from resnet_demo.ui.learn.surgery import surgery_chapter
from resnet_demo.ui.learn.vgg import vgg_chapter
from resnet_demo.ui.services import Services


def learn_tab(services: Services, form: dict[str, Any], tabs: gr.Tabs, dark: gr.Checkbox) -> None:
    """Build the tab.

    form: the components of the Train form by field. tabs: of the page. dark: on if the page is
    dark.
    """
    reader = GroupReader(services)
    chapter_text("0-start")
    with gr.Tabs(elem_id="chapters"):
        with gr.Tab("Start", id="learn-0"):
            chapter_text("0-contents")
        with gr.Tab("1 The block", id="learn-1") as block:
            block_chapter(block)
        with gr.Tab("2 The duel", id="learn-2") as duel:
            duel_chapter(reader, duel)
        with gr.Tab("3 The gradient", id="learn-3") as gradient:
            gradient_chapter(reader, gradient, dark)
        with gr.Tab("4 VGG and ResNet", id="learn-4") as vgg:
            vgg_chapter(reader, vgg)
        with gr.Tab("5 Find the bug", id="learn-5") as bugs:
            bugs_chapter(reader, bugs)
        with gr.Tab("6 Surgery", id="learn-6") as surgery:
            surgery_chapter(services, surgery)
        with gr.Tab("7 Learning rate", id="learn-7") as rate:
            range_chapter(reader, rate, form, tabs)
