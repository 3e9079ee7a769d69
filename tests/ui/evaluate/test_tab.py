from resnet_demo.ui.evaluate import tab
from resnet_demo.ui.evaluate.evaluation_status import Selection


def test_both_runs_are_evaluated_on_the_images_of_the_first(statuses, monkeypatch):
    started = []

    def start(run, split, caller, dataset=None, mode="plain"):
        started.append((run, split, dataset, mode))

    monkeypatch.setattr(statuses.services.evaluations, "start", start)
    tab.start_evaluations(statuses.services, Selection("mine", "val", "flip", "yours"))
    assert started == [("mine", "val", None, "flip"), ("yours", "val", "colours", "flip")]


def test_a_run_can_be_compared_with_every_other_run(statuses):
    update = tab.comparison_choices(statuses.services, "mine", "yours")
    assert [run for _, run in update["choices"]] == ["", "yours"]
    assert "value" not in update  # the choice stays
    assert tab.comparison_choices(statuses.services, "yours", "yours")["value"] == ""
