import asyncio

import gradio as gr

from resnet_demo.ui.classify.tab import (
    NO_COMPARISON,
    by_component,
    comparison_choices,
    cumulative,
)


def test_each_step_repeats_the_updates_of_all_earlier_steps():
    async def steps():
        yield {"message": "wait", "title": "?"}
        yield {"title": "mine"}
        yield {"maps": "m"}

    async def collect():
        return [updates async for updates in cumulative(steps())]

    assert asyncio.run(collect()) == [
        {"message": "wait", "title": "?"},
        {"message": "wait", "title": "mine"},
        {"message": "wait", "title": "mine", "maps": "m"},
    ]


def test_an_event_without_updates_skips_a_component():
    part = gr.State()
    assert by_component({"open": part}, {}) == {part: gr.skip()}


def test_a_run_can_be_compared_with_every_other_run_that_has_weights(services):
    update = comparison_choices(services, False, "mine", "gone")
    assert update["choices"][0] == NO_COMPARISON
    assert {run_id for _, run_id in update["choices"]} == {"", "yours", "other"}
    assert update["value"] == ""
    assert "value" not in comparison_choices(services, False, "mine", "yours")  # it stays
    assert comparison_choices(services, False, "yours", "yours")["value"] == ""
