"""The page: a header and the tabs, and how it is served."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
from gradio import state_holder
from gradio.blocks import Block
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from resnet_demo.hosting.access import Access
from resnet_demo.hosting.login_page import Door
from resnet_demo.hosting.security_headers import SPACES, Guard, trusted_hosts
from resnet_demo.hosting.upload_limits import Uploads
from resnet_demo.hosting.zerogpu.slices import Slice
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import Limits
from resnet_demo.ui import polling
from resnet_demo.ui.api import api
from resnet_demo.ui.classify.tab import classify_tab
from resnet_demo.ui.data.download_banner import banner
from resnet_demo.ui.data.tab import data_tab, keep_up
from resnet_demo.ui.evaluate.tab import IS_DARK, evaluate_tab
from resnet_demo.ui.header import header, way_words
from resnet_demo.ui.learn.tab import learn_tab
from resnet_demo.ui.polling import Pulse
from resnet_demo.ui.services import QUIET, Services
from resnet_demo.ui.theme import CSS, theme
from resnet_demo.ui.train import slices_panel
from resnet_demo.ui.train import tab as train
from resnet_demo.ui.train.run_panel import NOTHING
from resnet_demo.ui.train.tab import train_tab

MOST_UPLOAD = "2gb"  # an archive of images; a single picture has a limit of its own
MOST_SESSIONS = 2000  # pages that are remembered, open or closed, the latest used; some 40 KB each
MOST_QUEUED = 1000  # events of everybody that wait; one more is told that the queue is full


class App(gr.Blocks):
    """The page, and what answers its pulse."""

    polling: Pulse


def build_app(
    paths: Paths,
    access: Access | None = None,
    limits: Limits | None = None,
    gpu: Slice | None = None,
) -> App:
    """The app over those folders; nothing is written before somebody asks for it.

    access: who may change things, where strangers may open it; limits: how much. gpu: on ZeroGPU,
    what takes a slice of GPU time: there visitors train too.
    """
    access = access or Access()
    services = Services(paths, access, limits, gpu)
    with App(title="ResNet Demo", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        way = header(access)
        get = banner(services)
        marks = {name: polling.mark() for name in ("data", "evaluation")}
        with gr.Tabs() as tabs:
            with gr.Tab("Train", id="train"):
                tab = train_tab(services)
            with gr.Tab("Data", id="data"):
                data = data_tab(services)
            with gr.Tab("Evaluate", id="evaluate") as second:
                evaluation = evaluate_tab(services, second, marks["evaluation"])
            with gr.Tab("Classify", id="classify") as third:
                classify_tab(services, third)
            with gr.Tab("Learn", id="learn"):
                learn_tab(services, tab["form"], tabs, evaluation["dark"])
        data_seen = keep_up(services, get, data, tab["dataset"], marks["data"])
        api(services)
        choices = [evaluation[name] for name in ("run", "split", "mode", "other")]
        shown = {name: tab[name] for name in ("run", *NOTHING)}
        polling.wire(shown | marks, [tab["run"], tab["log_scale"], *choices])
        app.pulse = Pulse(services)

        def on_load(request: gr.Request) -> list:
            words = slices_panel.HEADER if gpu else way_words(access, services.caller())
            return [*train.on_load(services, tab, request), None, words]

        names = ("dataset", "note", "facts", "timer", "asked", "run")
        filled = [*(tab[name] for name in names), data_seen, way]
        app.load(on_load, None, filled, **QUIET)
        if access.public:
            app.unload(services.sessions.end)
        app.load(lambda dark: dark, evaluation["dark"], evaluation["dark"], js=IS_DARK, **QUIET)
        hush(app, gr.State())
    return app


def hush(app: gr.Blocks, nothing: gr.State) -> None:
    """Spare the browser the progress of quiet events, which is shown nowhere.

    Gradio copies every component that was ever told of progress whenever any event moves on, and
    the ticks alone do that a dozen times a second. Now they tell it to one that shows nothing.
    """
    for event in app.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [nothing]


class OpenPage(state_holder.SessionState):
    """What Gradio keeps of an open page: each component as it was last updated, once.

    Gradio makes a component anew at each update, `gr.skip()` included, and the new one has an id of
    its own, under which it was then kept for ever: 10 KB a second for each open page. And it wrote
    down the whole page for each visitor and each question over the API, for links to a state of
    the page, which there are none of here: 0.9 MB each, and longer than an answer takes.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))

    def __setitem__(self, key: int, value: object) -> None:
        if isinstance(value, Block):
            value._id = key
        super().__setitem__(key, value)


def guard(environment: Mapping[str, str]) -> Middleware:
    """What stands in front of every request; on a Space, its own frame is let in too."""
    on_space = "SPACE_ID" in environment
    frames = SPACES if on_space else "'self'"
    return Middleware(Guard, hosts=trusted_hosts(environment), frames=frames, space=on_space)


def launch(
    app: App, access: Access | None = None, limits: Limits | None = None, **options: object
) -> tuple:
    """Serve it: nothing public by default, nothing about the machine told (see Gradio's launch).

    access, limits: as it was built with. options: what a test changes, `prevent_thread_lock` say.
    """
    access = access or Access()
    state_holder.SessionState = OpenPage
    uploads = Path(get_upload_folder())
    before = [
        guard(os.environ),
        Middleware(Door, access),
        Middleware(Uploads, access, limits, uploads),
    ]
    app.queue(default_concurrency_limit=4, max_size=MOST_QUEUED)
    app._queue.sleep_when_free = 0.02  # s; Gradio's 0.001 keeps a core busy while nothing happens
    app._queue.progress_update_sleep_when_free = 1.0  # s; nothing here tells Gradio of progress
    return app.launch(
        theme=theme(),
        css_paths=[CSS],
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        state_session_capacity=MOST_SESSIONS,
        app_kwargs={"openapi_url": None, "middleware": before, "routes": [app.pulse.route]},
        max_file_size=MOST_UPLOAD,
        show_error=False,
        share=False,
        ssr_mode=False,
        _frontend=False,  # no look whether it answers within 3 s, which on a busy machine ends it
        **options,
    )
