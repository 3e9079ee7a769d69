from dataclasses import replace

from resnet_demo.ui.train import curves as module
from resnet_demo.ui.train.curves import Curves, draw, moment


def test_curves_are_made_once_for_all_who_watch_and_anew_when_the_log_has_grown(
    seen, events, monkeypatch
):
    made = []
    monkeypatch.setattr(module, "draw", lambda *asked: made.append(asked) or draw(*asked))
    curves, told = Curves(), events()
    first = curves(seen("running", told[:-1]), False)
    same = curves(seen("running"), False)  # another page's look at the same log
    assert same is first
    assert len(made) == 1
    grown = seen("running", told[-1:])
    assert curves(grown, False) == draw(grown, False) != first
    assert curves(grown, True) == draw(grown, True)
    assert len(made) == 3


def test_another_run_of_the_same_name_has_its_own_curves(seen, events):
    curves, look = Curves(), seen("running", events())
    before = curves(look, False)
    look.run.log().path.unlink()
    again = seen("running", events())
    assert again.view.started != look.view.started
    assert curves(again, False) is not before


def test_the_curves_of_many_runs_are_not_kept_for_ever(seen, events, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    curves, look = Curves(), seen("running", events())
    for log_loss in (False, True, False):
        curves(look, log_loss)
        assert len(curves.drawn) == 1


def test_a_step_is_drawn_where_a_line_of_so_few_points_can_show_it(seen, events):
    view = seen("running", events()).view
    short, long = view.step, 64 * 440  # with 280 points: one for 64 to 128 steps

    def at(step):
        view.steps.append(replace(view.steps[-1], step=step))
        view.last = view.steps[-1]
        return moment(view)

    assert at(short + 1) != at(short + 2)
    assert at(long) == at(long + 63) != at(long + 64)
    before = at(long)
    view.epochs.append(view.epochs[-1])
    assert at(long) != before
