"""A hundred visitors who classify at the same moment: all are served, and memory does not grow.

It prints durations: `pytest -m soak -s tests/ui/test_many_visitors.py`, on an idle machine.
"""

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median, quantiles

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.soak.rounds import process_usage
from tests.unit.tasks.test_load import processor_s

VISITORS, ROUNDS = 100, 6
RUN = "cifar10-shipped"


@pytest.fixture(scope="module")
def app(start_app):
    """Return a public app with the shipped network."""
    return start_app(RESNET_DEMO_PUBLIC="1", OMP_NUM_THREADS="2")


@pytest.fixture(scope="module")
def visitor(app):
    """Return a function that makes visitors with different addresses."""

    def make(number):
        headers = {"x-forwarded-for": f"198.51.{number // 250}.{1 + number % 250}"}
        return app.with_headers(**headers)

    return make


def photograph(number):
    """Return a JPEG of 640 by 480 pixels, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture(scope="module")
def client():
    """Return one client for all visitors, since making one is slow. It keeps no connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx.Client(timeout=120, limits=limits, verify=False) as client:
        yield client


def upload(client, app, number):
    files = {"files": (f"{number}.jpg", photograph(number))}
    answer = client.post(f"{app.url}gradio_api/upload", files=files, headers=app.headers)
    return {"path": answer.raise_for_status().json()[0]}


def ask(client, app, picture):
    """Return the seconds until the answer, and its event as text, without heartbeats before it."""
    began, url = time.monotonic(), f"{app.url}gradio_api/call/classify"
    posted = client.post(url, json={"data": [picture, RUN]}, headers=app.headers)
    text = client.get(f"{url}/{posted.json()['event_id']}", headers=app.headers).text
    return time.monotonic() - began, text.replace("event: heartbeat\ndata: {}\n\n", "")


def call_together(calls):
    """Call all functions at the same moment and return their results."""
    together = threading.Barrier(len(calls))

    def one(call):
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [*pool.map(one, calls)]


@pytest.mark.soak
def test_concurrent_visitors_get_the_answers_to_their_own_pictures(app, client, visitor):
    visitors = [visitor(number) for number in range(VISITORS)]
    pictures = [upload(client, each, number) for number, each in enumerate(visitors)]
    alone = [ask(client, *pair)[1] for pair in zip(visitors[:5], pictures, strict=False)]
    figures = []
    for _ in range(ROUNDS):
        calls = [partial(ask, client, *pair) for pair in zip(visitors, pictures, strict=True)]
        own, app_s = time.process_time(), processor_s(app.process.pid)
        took = call_together(calls)
        assert all(text.startswith("event: complete\n") for _, text in took)
        assert [text for _, text in took[:5]] == alone
        seconds = [one for one, _ in took]
        figures.append(
            {
                "median_s": round(median(seconds), 2),
                "p95_s": round(quantiles(seconds, n=20)[-1], 2),
                "last_s": round(max(seconds), 2),
                "app_cpu_s": round(processor_s(app.process.pid) - app_s, 1),
                "generator_cpu_s": round(time.process_time() - own, 1),
                "app_mb": round(process_usage(app.process.pid)["mb"]),
            }
        )
    print(json.dumps({"visitors": VISITORS, "rounds": figures}))
    assert figures[-1]["app_mb"] < 1.03 * figures[0]["app_mb"]
