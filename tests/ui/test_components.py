"""Components that several tabs use."""

import gradio as gr
import pytest

from resnet_demo.ui.components import RunDropdown


def test_a_run_newer_than_the_page_can_be_chosen():
    choice = RunDropdown(["older-1"])
    assert choice.preprocess("newer-1") == "newer-1"
    assert choice.preprocess(None) is None
    assert choice.get_block_name() == "dropdown"  # drawn as one


@pytest.mark.parametrize("nonsense", [1, ["older-1"], {"path": "/etc/passwd"}, True], ids=repr)
def test_a_value_that_is_not_an_id_is_refused(nonsense):
    with pytest.raises(gr.Error, match="run must be an id, got "):
        RunDropdown(["older-1"]).preprocess(nonsense)
