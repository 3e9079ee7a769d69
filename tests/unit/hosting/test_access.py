"""Authorization: by the environment, and by raw HTTP requests to public apps."""

import asyncio
import base64
import hashlib
import json
import os
import time
from functools import partial

import itsdangerous
import pytest
from starlette.requests import Request

from resnet_demo.cli import main
from resnet_demo.config import make_config, to_json
from resnet_demo.errors import ConfigError
from resnet_demo.file_locks import try_lock
from resnet_demo.hosting.access import (
    COOKIE,
    COOKIE_S,
    DELAY_S,
    MAX_GUESSES,
    Access,
    AdminToken,
)
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.locks import DEVICE_LOCK
from resnet_demo.tasks.status import Status, reconcile_status, status_json
from resnet_demo.ui.app import access_text
from tests import plain_http
from tests.pages import Page

TOKEN = "correct horse battery staple"
SPACE = {
    "SPACE_ID": "Me/demo",
    "SPACE_HOST": "me-demo.hf.space",
    "SYSTEM": "spaces",
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "of the client",
    "OAUTH_SCOPES": "openid",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}
CHAPTERS = ("duel", "gradient", "vgg", "bugs", "range", "transfer")
ONLY = "only the owner of this app may"
SECRETS = {
    "HF_TOKEN": "hf_" + "zY9" * 11,
    "DB_PASSWORD": "an unusual password",
    "NOTE_TO_SELF": "use hf_" + "xW8" * 11,
}
TINY = {"dataset": "colours", "model": "resnet20", "batch_size": 16, "image_size": 12, "crop": 0}


def request(session=None, client="203.0.113.9", **headers):
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "headers": named, "client": (client, 1), "method": "GET", "path": "/"}
    return Request({**scope, **({"session": session} if session is not None else {})})


def signed_in(name="me", left_s=3600):
    login = {"userinfo": {"preferred_username": name}, "expires_at": time.time() + left_s}
    return {"oauth_info": login}


def session_cookie(session, secret):
    """Return a login cookie as Gradio signs it with this client secret."""
    key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
    data = base64.b64encode(json.dumps(session).encode())
    return f"session={itsdangerous.TimestampSigner(key).sign(data).decode()}"


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "local"),
        ({"RESNET_DEMO_PUBLIC": "0"}, "local"),
        ({"RESNET_DEMO_PUBLIC": "1"}, "closed"),
        ({"RESNET_DEMO_PUBLIC": "1", "RESNET_DEMO_ADMIN_TOKEN": ""}, "closed"),
        ({"RESNET_DEMO_PUBLIC": "1", "RESNET_DEMO_ADMIN_TOKEN": TOKEN}, "token"),
        ({"RESNET_DEMO_ADMIN_TOKEN": TOKEN}, "token"),
        (SPACE, "login"),
        ({**SPACE, "RESNET_DEMO_ADMIN_TOKEN": TOKEN}, "login"),
        ({"SPACE_ID": "me/demo"}, "closed"),
        ({"SPACE_ID": "me/demo", "RESNET_DEMO_ADMIN_TOKEN": TOKEN}, "closed"),
        ({**SPACE, "SYSTEM": ""}, "closed"),
        ({**SPACE, "OAUTH_CLIENT_SECRET": ""}, "closed"),
        ({**SPACE, "SPACE_ID": ""}, "closed"),
    ],
)
def test_the_mode_follows_from_the_environment(environment, mode):
    access = Access.from_environment(environment)
    assert access.mode == mode
    assert access.is_public == (mode != "local")


def test_a_short_token_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="must have at least 16 characters, got 9") as caught:
        Access.from_environment({"RESNET_DEMO_ADMIN_TOKEN": "sesame123"})
    assert "sesame" not in str(caught.value)


def test_the_token_is_not_in_any_repr():
    access = Access.from_environment({"RESNET_DEMO_ADMIN_TOKEN": TOKEN})
    assert "horse" not in f"{access!r} {vars(access.token)!r}"


def test_on_a_space_the_author_and_the_listed_names_are_owners():
    access = Access.from_environment({**SPACE, "RESNET_DEMO_OWNERS": "Anna, bob,"})
    callers = {
        name: access.caller(request(signed_in(name))) for name in ("ME", "anna", "Bob", "eve")
    }
    assert {name: who.is_owner for name, who in callers.items()} == {
        "ME": True,
        "anna": True,
        "Bob": True,
        "eve": False,
    }
    assert callers["eve"].signed_in
    assert not access.caller(request(signed_in(left_s=-1))).is_owner
    assert not access.caller(request({})).is_owner
    assert not access.caller(request({"oauth_info": {"userinfo": None}})).is_owner
    assert not access.caller(None).is_owner


@pytest.mark.parametrize(
    "environment", [{"RESNET_DEMO_PUBLIC": "1"}, {"RESNET_DEMO_ADMIN_TOKEN": TOKEN}]
)
def test_a_login_outside_of_a_space_makes_no_owner(environment):
    assert not Access.from_environment(environment).caller(request(signed_in())).is_owner


def test_a_visitor_s_address_is_the_last_public_one_before_the_platform():
    access = Access.from_environment(SPACE)
    passed = "198.51.100.1, 8.8.8.8, 10.0.0.3"
    assert access.caller(request(x_forwarded_for=passed)).name == "8.8.8.8"
    assert access.caller(request(client="10.0.0.9")).name == "10.0.0.9"
    off = Access.from_environment({"RESNET_DEMO_PUBLIC": "1"})
    assert off.caller(request(x_forwarded_for="8.8.8.8")).name == "203.0.113.9"


def test_addresses_of_one_ipv6_network_are_one_visitor():
    access = Access.from_environment({"RESNET_DEMO_PUBLIC": "1"})
    names = {access.caller(request(client=f"2001:db8:1:2:{n:x}::{n}")).name for n in range(99)}
    assert names == {"2001:db8:1:2::/64"}
    assert access.caller(request(client="2001:db8:1:3::1")).name not in names
    assert access.caller(request(client="::ffff:203.0.113.9")).name == "203.0.113.9"
    assert access.caller(request(client="203.0.113.9")).name == "203.0.113.9"
    space = Access.from_environment(SPACE)
    far = request(x_forwarded_for="2a00:1450:1:2:3::4, 10.0.0.3")
    assert space.caller(far).name == "2a00:1450:1:2::/64"


def guess(token, count, address):
    """Send this many different wrong tokens; return the waiting times."""

    async def send_all():
        return [await token.slow_down(f"{address} {n}", address) for n in range(count)]

    return asyncio.run(send_all())


def test_wrong_tokens_are_throttled_by_address_and_never_lock_out_the_right_one():
    token, now = AdminToken(TOKEN, delay_s=0), [0.0]
    token.guesses.clock = lambda: now[0]
    for address in range(22):
        waits = guess(token, 2 * MAX_GUESSES, f"address {address}")
        assert waits == [0.0] * MAX_GUESSES + [pytest.approx(600.0)] * MAX_GUESSES
    assert token.verify(TOKEN)
    assert token.authorizes(request(client="address 1", authorization=f"Bearer {TOKEN}"))
    assert not token.authorizes(request(client="address 1", authorization="Bearer wrong"))
    now[0] = 601.0
    assert guess(token, 1, "address 1 later") == [0.0]


def test_an_old_token_that_a_program_keeps_sending_counts_once():
    token = AdminToken(TOKEN, delay_s=0)

    async def send_all():
        return [await token.slow_down("old", "a") for _ in range(100)]

    assert not any(asyncio.run(send_all()))


def test_the_answer_to_a_wrong_token_comes_late(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(AdminToken(TOKEN).slow_down("wrong", "a"))
    assert slept == [DELAY_S]


def test_a_changed_or_expired_cookie_does_not_authorize(monkeypatch):
    token = AdminToken(TOKEN)
    good = token.cookie()
    name, made, signature = good.split(".")
    later = itsdangerous.TimestampSigner("another key").sign("owner").decode()
    of_another = f"other.{made}.{signature}"

    def authorizes(cookie):
        return token.authorizes(request(cookie=f"{COOKIE}={cookie}"))

    assert authorizes(good)
    assert not any(
        authorizes(cookie)
        for cookie in (
            "",
            ".",
            later,
            of_another,
            f"{name}.{made}",
            f"{name}.{made}.",
            f"{name}.{made}.0",
        )
    )
    assert not AdminToken(TOKEN).authorizes(request(cookie=f"{COOKIE}={good}"))  # another process
    late = time.time() + COOKIE_S + 1
    monkeypatch.setattr(time, "time", lambda: late)
    assert not authorizes(good)


# Against real apps.


get, post = partial(plain_http.get, timeout=60), partial(plain_http.post, timeout=60)


def stopped_run(runs):
    folder = runs / "stopped-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(make_config(TINY), "0"))
    (folder / "status.json").write_bytes(status_json(Status(state="stopped")))
    (folder / "events.jsonl").touch()


@pytest.fixture(scope="module")
def by_token(start_app):
    """Return a public app with an admin token and other secrets in its environment."""
    served = start_app(RESNET_DEMO_ADMIN_TOKEN=TOKEN, **SECRETS)
    stopped_run(served.runs)
    return served


@pytest.fixture(scope="module")
def by_login(start_app):
    """Return an app with the environment of a Space."""
    served = start_app(**SPACE)
    stopped_run(served.runs)
    return served


def tree(*roots):
    files = [path for root in roots for path in root.rglob("*")]
    return {path: path.read_bytes() if path.is_file() else None for path in files}


def clicks(page):
    """Yield each button event with the values that a fresh page would send."""
    parts = {part["id"]: part["props"] for part in page.config["components"]}
    for event in page.config["dependencies"]:
        kinds = {kind for _, kind in event["targets"]}
        if event["backend_fn"] and kinds & {"click", "upload", "submit"}:
            names = [parts[part].get("elem_id") for part, _ in event["targets"]]
            values = [parts[part].get("value") for part in event["inputs"]]
            chosen = [
                "stopped-1" if parts[part].get("elem_id") == "run" else value
                for part, value in zip(event["inputs"], values, strict=True)
            ]
            yield names[0] or event["id"], event["id"], chosen


OWNER_ONLY = {
    *("train", "stop", "resume", "retry", "delete", "get", "get-cancel", "data-delete-yes"),
    *("step-shapes", "step-cifar", "get-weights", "get-weights-cancel", "empty-trash-yes"),
    *("import-file", "import-scan", "import-start", "import-cancel", "import-clear"),
    *("evaluate-cancel", "robustness-cancel", "similar-cancel"),
    *("train-export-start", "train-export-cancel", "train-export-download"),
    "classify-export-cancel",
    *(f"{chapter}-{what}" for chapter in CHAPTERS for what in ("start", "stop")),
}


def refused(app):
    """Return the buttons whose events are refused as raw requests."""
    page, names = Page(app), set()
    for name, event, values in clicks(page):
        done, output = page.run_event(event, *values)
        if not done and str(output.get("error")).startswith(ONLY):
            names.add(name)
    return names


def refusals(app):
    """Return the errors of the named endpoints that change something."""
    calls = {"train": [TINY], "stop": ["stopped-1"]}
    return [app.call(name, *values)[1]["error"] for name, values in calls.items()]


def test_a_stranger_can_change_nothing_by_any_button_or_endpoint(by_token):
    before = tree(by_token.runs, by_token.data)
    forged = {
        "cookie": f"{session_cookie(signed_in(), '')}; {COOKIE}=9999999999.{'0' * 64}",
        "authorization": "Bearer not the token",
        "x-forwarded-for": "203.0.113.50",
    }
    stranger = by_token.with_headers(**forged)
    assert refused(stranger) == OWNER_ONLY
    assert refusals(stranger) == [f"{ONLY} train", f"{ONLY} stop a run"]
    assert tree(by_token.runs, by_token.data) == before


def test_the_token_makes_only_this_browser_the_owner_s(by_token):
    login_url = f"{by_token.url}owner"
    assert "Admin token" in get(login_url).text
    wrong = post(login_url, data={"token": "not the token"})
    assert (wrong.status_code, COOKIE in wrong.headers.get("set-cookie", "")) == (403, False)
    came = post(login_url, data={"token": TOKEN})
    assert (came.status_code, came.headers["location"]) == (303, "./")
    assert {"HttpOnly", "SameSite=lax"} <= {*came.headers["set-cookie"].split("; ")}
    page = Page(by_token.with_headers(cookie=f"{COOKIE}={came.cookies[COOKIE]}"))
    assert page.press("stop", "stopped-1") == (True, None)
    assert Page(by_token).press("stop", "stopped-1") == (False, f"{ONLY} stop a run")
    left = post(login_url, data={"leave": "1"}, cookies=came.cookies)
    assert 'resnet_demo_owner=""' in left.headers["set-cookie"]
    assert post_from_another_site(login_url, came.cookies[COOKIE]).status_code == 403


def test_a_token_for_repositories_is_used_only_where_the_visitor_allowed_it():
    def token(mode="login", left_s=3600, scope="openid manage-repos"):
        session = signed_in(left_s=left_s)
        session["oauth_info"] |= {"scope": scope, "access_token": "hf_granted"}
        return Access(mode, "me/demo", frozenset({"me"})).hub_token(request(session))

    assert token() == "hf_granted"
    assert token(scope="openid profile") is None
    assert token(left_s=-1) is None
    assert token(mode="local") is None  # there, anybody can make such a session
    assert Access("login").hub_token(None) is None


def post_from_another_site(login_url, cookie):
    headers = {"origin": "https://evil.example", "cookie": f"{COOKIE}={cookie}"}
    return post(login_url, data={"token": TOKEN}, headers=headers)


def test_a_program_sends_the_token_with_each_request(by_token):
    owner = by_token.with_headers(authorization=f"Bearer {TOKEN}")
    device = try_lock(by_token.runs / DEVICE_LOCK)  # the worker does not load torch
    event, answer = owner.call("train", {**TINY, "epochs": 30})
    assert event == "complete", answer
    assert refusals(by_token) == [f"{ONLY} train", f"{ONLY} stop a run"]
    assert owner.call("stop", answer[0])[0] == "complete"
    assert "stopped-1 is not running" in owner.call("stop", "stopped-1")[1][0]
    os.close(device)


def test_no_secret_is_in_any_file_or_answer(by_token, tmp_path, until, monkeypatch, capfd):
    owner = by_token.with_headers(authorization=f"Bearer {TOKEN}")
    event, answer = owner.call("train", {**TINY, "epochs": 1})
    assert event == "complete", answer
    run, folder = answer[0], by_token.runs / answer[0]
    until(lambda: reconcile_status(folder).state == "finished")
    assert by_token.call("evaluate", run, "test")[0] == "complete"
    wrong = post(f"{by_token.url}owner", data={"token": f"{TOKEN}!"})
    for name, value in by_token.environment.items():  # with the secrets
        monkeypatch.setenv(name, value)
    for words in (["runs", "pack", run, "packed"], ["space", "build", "space"]):
        assert main([*words[:-1], str(tmp_path / words[-1])]) == 0
    # Run, evaluation, uploads, what the app and its workers printed; what is exported from it.
    written = tree(by_token.runs.parent, tmp_path)
    texts = [*capfd.readouterr(), wrong.text]
    assert "packed" in texts[0]
    texts += [get(by_token.url).text, get(f"{by_token.url}config").text]
    assert {"app.log", "events.jsonl", "config.json"} <= {path.name for path in written}
    for secret in (TOKEN, *SECRETS.values()):
        assert not [path for path, bytes_ in written.items() if secret.encode() in (bytes_ or b"")]
        assert not [text for text in texts if secret in text]


def test_too_many_wrong_tokens_are_throttled_with_a_waiting_time(by_token):
    elsewhere = {"x-forwarded-for": "203.0.113.77"}  # as this machine's proxy would send it
    login_url = f"{by_token.url}owner"
    codes = [
        post(login_url, data={"token": f"guess {n}"}, headers=elsewhere).status_code
        for n in range(MAX_GUESSES + 1)
    ]
    assert codes == [403] * MAX_GUESSES + [429]
    late = post(login_url, data={"token": "another"}, headers=elsewhere)
    assert (late.status_code, int(late.headers["retry-after"]) > 500) == (429, True)
    assert "Too many wrong tokens: wait" in late.text
    bearer = {**elsewhere, "authorization": "Bearer yet another"}
    assert get(f"{by_token.url}config", headers=bearer).status_code == 429
    assert post(login_url, data={"token": TOKEN}, headers=elsewhere).status_code == 303
    owner = by_token.with_headers(**elsewhere, authorization=f"Bearer {TOKEN}")
    assert "stopped-1 is not running" in owner.call("stop", "stopped-1")[1][0]


def test_on_a_space_a_real_login_authorizes_and_a_forged_one_does_not(by_login):
    before = tree(by_login.runs, by_login.data)
    secret = SPACE["OAUTH_CLIENT_SECRET"]
    for cookie in (
        session_cookie(signed_in(), ""),  # as it would be signed off a Space
        session_cookie(signed_in(), secret)[:-2] + "xx",
        session_cookie(signed_in(left_s=-5), secret),
    ):
        assert refusals(by_login.with_headers(cookie=cookie)) == [
            f"{ONLY} train",
            f"{ONLY} stop a run",
        ]
    visitor = by_login.with_headers(cookie=session_cookie(signed_in("eve"), secret))
    assert refusals(visitor) == [f"{ONLY} train", f"{ONLY} stop a run"]
    assert Page(visitor).press("resume", "stopped-1") == (False, f"{ONLY} resume a run")
    assert tree(by_login.runs, by_login.data) == before
    owner = by_login.with_headers(cookie=session_cookie(signed_in("Me"), secret))
    assert "stopped-1 is not running" in owner.call("stop", "stopped-1")[1][0]
    assert get(f"{by_login.url}owner").status_code == 404


@pytest.mark.parametrize(
    ("environment", "caller", "words"),
    [
        ({}, Caller(), ""),
        ({"RESNET_DEMO_PUBLIC": "1"}, Caller("a", False), "no owner is set up"),
        ({"SPACE_ID": "me/demo"}, Caller("a", False), "or duplicate the Space"),
        ({"RESNET_DEMO_ADMIN_TOKEN": TOKEN}, Caller("a", False), "[sign in as its owner](./owner)"),
        ({"RESNET_DEMO_ADMIN_TOKEN": TOKEN}, Caller(), "[Sign out](./owner)"),
        (SPACE, Caller("a", False), "sign in as its owner"),
        (SPACE, Caller("e*e", False, True), r"signed in as **e\*e**, who may not"),
        (SPACE, Caller("me", True, True), "You are signed in as its owner"),
    ],
)
def test_the_header_says_what_a_visitor_may_do(environment, caller, words):
    assert words in access_text(Access.from_environment(environment), caller)
