from resnet_demo.ui.app import build_app


def test_quiet_events_tell_their_progress_to_one_component_that_shows_nothing(services):
    app = build_app(services.places)
    told = app.get_config_file()["dependencies"]
    quiet = [event["show_progress_on"] for event in told if event["show_progress"] == "hidden"]
    ticks = [event for event in told if any(kind == "tick" for _, kind in event["targets"])]
    assert all(event["show_progress"] == "hidden" for event in ticks)
    [nothing] = quiet[0]
    assert all(each == [nothing] for each in quiet)
    [kind] = [part["type"] for part in app.get_config_file()["components"] if part["id"] == nothing]
    assert kind == "state"
