"""The page: header, tabs and polling, and the server that serves it."""

import os
import sys
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware

from resnet_demo.errors import DemoError
from resnet_demo.hosting.access import LOGIN_PATH, Access, OwnerLogin
from resnet_demo.hosting.request_limits import MAX_UPLOAD_BYTES, RequestLimits
from resnet_demo.hosting.security_headers import (
    SPACES,
    SecurityMiddleware,
    listens_everywhere,
    trusted_hosts,
)
from resnet_demo.hosting.zerogpu.visitor_runs import Slice
from resnet_demo.paths import Paths
from resnet_demo.runs.text import escape_markdown
from resnet_demo.tasks.limits import Caller, Limits
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.ui import plots, polling
from resnet_demo.ui.api import add_endpoints
from resnet_demo.ui.classify.tab import classify_tab
from resnet_demo.ui.data.tab import data_tab, follow_data
from resnet_demo.ui.evaluate.tab import IS_DARK, evaluate_tab
from resnet_demo.ui.first_steps import connect_steps, first_steps, steps_updates
from resnet_demo.ui.form import READ
from resnet_demo.ui.front_end import FrontEnd, LightPage
from resnet_demo.ui.gradio_fixes import (
    MARKUP_FIXES,
    FreshBlocks,
    WrongRequests,
    fetch_no_addresses,
    mute_progress,
    separate_latest_events,
    share_queue,
    slow_down_queue,
    use_guarded_server,
    use_page_state,
    use_rare_tracebacks,
    use_shared_queue,
    use_upload_parser,
)
from resnet_demo.ui.learn import tab as learn
from resnet_demo.ui.polling import OpenPage, Polling
from resnet_demo.ui.services import QUIET_EVENT, Services
from resnet_demo.ui.train import tab as train
from resnet_demo.ui.train import zerogpu_panel
from resnet_demo.ui.train.form_notes import connect_train_on
from resnet_demo.ui.train.run_details import connect_next_steps
from resnet_demo.ui.train.run_panel import EMPTY_PANEL
from resnet_demo.ui.train.tab import train_tab
from resnet_demo.ui.uploads import keep_uploads_clean

CSS, SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
# The memory of a page each of whose components has been updated. A new one takes some 30 KB.
MAX_PAGE_BYTES = 1_600_000
MAX_SESSIONS = 400_000_000 // MAX_PAGE_BYTES  # pages that Gradio remembers, open or closed
# Seconds for which a thread that computes keeps others waiting; Python's own are ten times as many.
# One of them sends all answers, and would wait that long before each step of each.
SWITCH_S = 0.0005
MAX_QUEUED = 1000  # waiting events of all visitors together; further ones are refused
TITLE = """# ResNet Demo
Train a residual network, watch it learn, measure it, and show it your own pictures."""
PUBLIC = "**Public**: watch, classify, evaluate, learn."
CLOSED = (
    f"{PUBLIC} **Nothing can be changed here**: no owner is set up. To train, run it on your own "
    "machine{or_duplicate}."
)
LOGIN = f"{PUBLIC} To train, stop, delete or import, sign in as its owner."
TOKEN = f"{PUBLIC} To train, stop, delete or import, [sign in as its owner](.{LOGIN_PATH})."
OWNER = "**Public. You are signed in as its owner** and can change everything."
# An error message goes with the next input or press of a button: its cause may be gone.
CLOSE_TOASTS = """() => ['input', 'click'].forEach((kind) => document.addEventListener(kind, () =>
  document.querySelectorAll('.toast-close.error').forEach((button) => button.click()), true))"""
STRANGER = f"{PUBLIC} You are signed in as {{name}}, who may not change anything here."


class App(FreshBlocks):
    """The page, and the answers to its polling."""

    polling: Polling


def build_app(
    paths: Paths,
    access: Access | None = None,
    limits: Limits | None = None,
    gpu: Slice | None = None,
) -> App:
    """Build the page over these folders. Opening it writes nothing.

    access: who may change things. limits: quotas in public mode. gpu: on ZeroGPU, the function
    that trains for one slice of GPU time; visitors may train there.
    """
    access = access or Access()
    services = Services(paths, access, limits, gpu)
    # Gradio removes uploads and cached files after an hour, and looks once an hour.
    with App(title="ResNet Demo", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        access_line = page_header(access, access.is_public or gpu is not None)
        steps = first_steps(services)
        # Polling sends these tabs only a version, whose change triggers an event of the tab.
        versions = {name: polling.version_field() for name in ("data", "evaluation")}
        with gr.Tabs() as tabs:
            with gr.Tab("Train", id="train"):
                tab = train_tab(services, versions["data"])
            with gr.Tab("Data", id="data"):
                data = data_tab(services)
            with gr.Tab("Evaluate", id="evaluate") as second:
                evaluation = evaluate_tab(services, second, versions["evaluation"])
            with gr.Tab("Classify", id="classify") as third:
                classification = classify_tab(services, third)
            with gr.Tab("Learn", id="learn"):
                learn.learn_tab(services, tab["form"].parts, tabs, evaluation["dark"])
        data_seen = follow_data(services, steps, data, tab["dataset"], versions["data"])
        connect_train_on(services, tab["form"], tabs, data["train"], data["name"])
        connect_train_on(services, tab["form"], tabs, data["import_train"], None)
        connect_next_steps(services, tab, tabs, evaluation, classification)
        connect_steps(services, steps, tabs, tab["run"], classification)
        add_endpoints(services)
        connect_polling(tab, evaluation, versions)
        app.polling = Polling(services)
        app.first_updates = first_page(app.polling, tab, steps)
        connect_load(app, services, tab, data_seen, access_line)
        # Only the browser knows whether the page is dark; figures are drawn on the server.
        dark = evaluation["dark"]
        app.load(lambda is_dark: is_dark, dark, dark, js=IS_DARK, **QUIET_EVENT)
        app.load(None, None, None, js=CLOSE_TOASTS, **QUIET_EVENT)
        # After the last event: these change those that exist.
        separate_latest_events(app)
        mute_progress(app, gr.State())
    return app


def connect_polling(
    tab: dict[str, Any], evaluation: dict[str, Any], versions: dict[str, gr.Textbox]
) -> None:
    """Start the page's polling. tab, evaluation: the components of these tabs by name.

    versions: of the tabs to which only a version is sent.
    """
    # The order of polling.QUERY_KEYS.
    choices = [tab["run"], tab["experiments"]]
    choices += [evaluation[name] for name in ("run", "split", "mode", "other")]
    shown = {name: tab[name] for name in ("run", "experiments", "trash", *EMPTY_PANEL)}
    polling.start_polling(shown | versions, choices)


def connect_load(
    app: App,
    services: Services,
    tab: dict[str, Any],
    data_seen: gr.State,
    access_line: gr.Markdown,
) -> None:
    """Connect opening and closing a page. tab: the components of the Train tab."""

    def on_load(request: gr.Request) -> list[Any]:
        on_zerogpu = services.slices is not None
        text = access_text(services.access, services.caller())
        opened = train.on_load(services, request.query_params.get("run"))
        for name in ("dataset", "run"):  # sent with the page; a person may have chosen others
            opened[train.LOADED.index(name)].pop("value")
        # None: nothing of the Data tab has been sent to this page yet.
        return [
            *opened,
            None,
            zerogpu_panel.HEADER if on_zerogpu else text,
        ]

    parts = [*(tab[name] for name in train.LOADED), data_seen, access_line]
    loaded = app.load(on_load, None, parts, **QUIET_EVENT)
    # The page opened with this run, so its change event did not put it there.
    loaded.then(None, tab["run"], None, js=train.PUT_RUN_INTO_URL, **QUIET_EVENT)
    # After the form has its datasets.
    loaded.then(None, None, tab["saved"], js=READ, **QUIET_EVENT)
    # Strangers' pictures are removed when their page closes, not an hour later.
    if services.access.is_public:
        app.unload(services.page_uploads.close_page)


def first_page(
    polls: Polling, tab: dict[str, Any], steps: dict[str, Any]
) -> Callable[[QueryParams], tuple[dict[Any, Any], dict[str, Any]]]:
    """Return a function that makes what a new page shows at once, from the query of its address.

    It returns component -> update, and the versions of those that polling sends.
    tab: the components of the Train tab. steps: of `first_steps`.
    """
    # Pages are served in threads, and `snapshots` of the services belong to the event loop.
    own, lock = copy(polls.services), Lock()
    own.snapshots = Snapshots()

    def updates(query: QueryParams) -> tuple[dict[Any, Any], dict[str, Any]]:
        if polls.open_page:
            polls.open_page.on_request()
        try:
            with lock:
                shown, versions = train.first_updates(own, tab, query.get("run"))
                polled = {name: polling.short_hash(each) for name, each in versions.items()}
                return shown | steps_updates(own, steps), {"polled": polled}
        except (DemoError, OSError):  # the page opens as the app started, and then names the error
            return {}, {}

    return updates


def page_header(access: Access, is_public: bool) -> gr.Markdown:
    """Build the title and the sign-in row; return the line for `access_text`."""
    gr.Markdown(TITLE, elem_id="title")
    line = gr.Markdown(visible=is_public, elem_id="access", elem_classes=["hint"])
    with gr.Row(visible=access.is_public and access.space is not None, elem_id="sign-in"):
        if access.mode == "login":
            gr.LoginButton(size="sm", scale=0, min_width=220)
        elif access.space is not None:
            gr.DuplicateButton("Duplicate this Space", min_width=220)
    return line


def access_text(access: Access, caller: Caller) -> str:
    """Return the visitor's permissions (Markdown); "" locally."""
    if access.mode == "local":
        return ""
    if caller.is_owner:
        return f"{OWNER} [Sign out](.{LOGIN_PATH})" if access.mode == "token" else OWNER
    if access.mode == "token":
        return TOKEN
    if access.mode == "closed":
        return CLOSED.format(or_duplicate=", or duplicate the Space" if access.space else "")
    return (
        STRANGER.format(name=f"**{escape_markdown(caller.name)}**") if caller.signed_in else LOGIN
    )


def head() -> str:
    """Return the scripts of the page that run before it is drawn, as HTML."""
    scripts = (SCRIPT, plots.SCRIPT, learn.SCRIPT)
    return "".join(f"<script>{script.read_text()}</script>" for script in scripts)


def theme() -> gr.themes.Base:
    """Return the theme: system fonts, so that nothing is fetched from elsewhere.

    Text has a contrast of at least 4.5:1 on the page and on panels (WCAG 2.2, 1.4.3).
    """
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        body_text_color_subdued="*neutral_600",
        block_title_text_color="*neutral_600",
        block_label_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        color_accent="*primary_600",  # page.css has the lighter one of the dark page
    )


def security(environment: Mapping[str, str]) -> Middleware:
    """Return the check of every request. On a Space, the platform's frame is allowed too."""
    on_space = "SPACE_ID" in environment
    frames = SPACES if on_space else "'self'"
    return Middleware(
        SecurityMiddleware,
        hosts=trusted_hosts(environment),
        frames=frames,
        space=on_space,
        own_addresses=listens_everywhere(environment),
    )


def launch(
    app: App, access: Access | None = None, limits: Limits | None = None, **options: object
) -> tuple:
    """Serve the app, with all of Gradio's public extras off. Returns what Gradio's launch returns.

    access, limits: as for `build_app`. options: further options of Gradio's launch, for tests.
    """
    access = access or Access()
    sys.setswitchinterval(SWITCH_S)
    use_page_state()  # before the first page opens
    use_guarded_server()
    use_upload_parser()
    fetch_no_addresses()
    use_rare_tracebacks()
    use_shared_queue()
    keep_uploads_clean(Path(get_upload_folder()), app)
    # The first one sees a request first: a foreign host is refused before anything is read.
    front_end = FrontEnd(block.get_block_name() for block in app.blocks.values())
    middleware = [
        security(os.environ),
        Middleware(LightPage, front_end.head),
        Middleware(RequestLimits, access, limits, Path(get_upload_folder())),
        Middleware(OwnerLogin, access),
        Middleware(WrongRequests),
    ]
    routes = [app.polling.route, front_end.route]
    app.polling.open_page = OpenPage(os.environ, app.polling.services)
    # Without `api_open`, no event can be called past the queue.
    app.queue(default_concurrency_limit=4, max_size=MAX_QUEUED, api_open=False)
    slow_down_queue(app)  # after `queue`, which makes a new queue
    if limits is not None:
        share_queue(app, lambda request: access.caller(request).name)
    return app.launch(
        theme=theme(),
        css_paths=[CSS],
        head=head(),
        js=MARKUP_FIXES.read_text(),
        footer_links=["api"],
        run_history=False,  # on by default
        enable_monitoring=False,  # else its summary is public
        state_session_capacity=MAX_SESSIONS,
        # The description of all routes is public by default; /gradio_api has a second copy, which
        # SecurityMiddleware closes.
        app_kwargs={"openapi_url": None, "middleware": middleware, "routes": routes},
        max_file_size=MAX_UPLOAD_BYTES,
        show_error=False,  # messages of unforeseen errors may hold paths of this machine
        share=False,
        ssr_mode=False,  # it would need Node.js
        _frontend=False,  # else Gradio gives up if its own page takes more than 3 s to answer
        **options,
    )
