"""The waits of a person: for the first page, the first step of a run, the first answer, an import.

Measured from outside, through HTTP, the command line and the runs' logs, on an app of its own.
No torch here: it would compete with the app for the memory.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from resnet_demo.errors import DemoError
from resnet_demo.events import Failed, Step, Stopped
from resnet_demo.file_locks import process_fields
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import Run

SHIPPED = "cifar10-shipped"
# A network that trains in milliseconds, on images that need no download, for longer than a
# measurement: the run is stopped after its first step.
CONFIG = {"recipe": "quick", "dataset": "shapes10", "model": "resnet20", "epochs": 100}
OPEN_S = 5.0  # a page is open so long before its first picture
SETTLED_S = 12.0  # and so long before a run that should find a worker ready
POLL_S = 1.0  # as a page does
STEP_POLL_S = 0.02
PATIENCE_S = 300.0
PICTURE_SIZE = 32  # pixels a side of an imported picture
CLASSES = 10


def measure_waits(paths: Paths, rounds: int = 5, pictures: int = 0) -> dict[str, Any]:
    """Return seconds, each as median, min and max over the rounds, and what was left out.

    page: from `python app.py` to its first answer; page_cpu: CPU seconds until then; memory: MB.
    train_cold: from Train to the first step, without standby worker; train_warm: with a page open
    for SETTLED_S; train_again: once more; each also as `_cpu`, the CPU seconds of app and worker
    meanwhile, which other programs on the machine change less. warm_ratio: train_warm / train_cold
    of a round, and warm_ratio_cpu.
    classify_first: a picture, the page open for OPEN_S; classify_next: the same picture again;
    classify_ratio. evaluate, evaluate_cpu: the shipped network on the test split, from the command
    line. import: `pictures` PNG files, 0 for none. None: left out.

    Raises DemoError if the app or the command line fails.
    """
    rows = [measure_app(paths) for _ in range(rounds)]
    result = {name: median_range([row[name] for row in rows]) for name in rows[0]}
    result |= {"evaluate": None, "evaluate_cpu": None, "import": None}
    left_out = []
    if (paths.data / "cifar10").is_dir():
        runs = [measure_evaluation(paths) for _ in range(rounds)]
        result["evaluate"], result["evaluate_cpu"] = map(median_range, zip(*runs, strict=True))
    else:
        left_out.append("evaluate: cifar10 is not in the data folder")
    if pictures:
        result["import"] = median_range(measure_imports(pictures, rounds))
    else:
        left_out.append("import: no --pictures")
    return {**result, "rounds": rounds, "pictures": pictures, "left_out": left_out}


def median_range(values: Any) -> dict[str, float]:
    """Return median, minimum and maximum of some numbers, ready for JSON."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def measure_app(paths: Paths) -> dict[str, float]:
    """Start an app, and return what is waited for on its page, in seconds; see `measure_waits`."""
    # New apps for each round: the first wait is a different one from all later.
    with started(paths, RESNET_DEMO_STANDBY="0") as app:
        row = dict(zip(("train_cold", "train_cold_cpu"), app.train(), strict=True))
    with started(paths) as app:
        row |= {"page": app.started_s, "page_cpu": app.cpu_s(), "memory": app.memory_mb()}
        with app.open_page():
            time.sleep(OPEN_S)
            picture = app.upload(png_noise(640, 480))
            for name in ("classify_first", "classify_next"):
                start = time.perf_counter()
                app.call("classify", picture, SHIPPED)
                row[name] = time.perf_counter() - start
            for name in ("train_warm", "train_again"):
                time.sleep(SETTLED_S)
                row[name], row[f"{name}_cpu"] = app.train()
    for end in ("", "_cpu") if row["train_cold_cpu"] else ("",):
        row[f"warm_ratio{end}"] = row[f"train_warm{end}"] / row[f"train_cold{end}"]
    row["classify_ratio"] = row["classify_first"] / row["classify_next"]
    return row


def png_noise(width: int, height: int) -> bytes:
    """Return a PNG file of random pixels."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(3 * width * height)).save(file, "PNG")
    return file.getvalue()


def measure_evaluation(paths: Paths) -> tuple[float, float]:
    """Evaluate the shipped network from the command line; return seconds and CPU seconds."""
    return run_command(paths.environment(), "evaluate", SHIPPED, "--split", "test", "--json")


def measure_imports(pictures: int, rounds: int) -> list[float]:
    """Import so many new PNG files into a temporary data folder, `rounds` times; return seconds."""
    seconds = []
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        folder = Path(name)
        for number in range(pictures):
            file = folder / "pictures" / f"class{number % CLASSES}" / f"{number:06}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png_noise(PICTURE_SIZE, PICTURE_SIZE))
        for number in range(rounds):
            roots = {"RESNET_DEMO_DATA": str(folder / f"data{number}")}
            source = str(folder / "pictures")
            seconds.append(run_command(roots, "data", "import", "pictures", source, "--json")[0])
    return seconds


def run_command(variables: Mapping[str, str], *arguments: str) -> tuple[float, float]:
    """Run `python -m resnet_demo …`; return its seconds and CPU seconds. Raises DemoError."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "resnet_demo", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()
        raise DemoError(f"`{' '.join(arguments[:2])}` failed: {reason}")
    cpu_s = after.children_user + after.children_system
    return seconds, cpu_s - before.children_user - before.children_system


class MeasuredApp:
    """A started app, seen through HTTP. started_s: seconds until its first answer."""

    def __init__(self, process: subprocess.Popen, url: str, runs: Path, started_s: float) -> None:
        self.process, self.url, self.runs, self.started_s = process, url, runs, started_s

    def memory_mb(self) -> float:
        """Return the resident memory of the app's process in MB; 0 without /proc."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1000
        return 0.0

    def cpu_s(self) -> float:
        """Return the CPU seconds of the app and its living children; 0 without /proc."""
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            fields = process_fields(int(folder.name))
            # [1]: the parent.
            if int(folder.name) == self.process.pid or fields[1:2] == [str(self.process.pid)]:
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def call(self, name: str, *values: Any) -> Any:
        """Call an endpoint of the HTTP API; return its answer. Raises DemoError."""
        url = f"{self.url}/gradio_api/call/{name}"
        body = json.dumps({"data": values}).encode()
        event = json.loads(request(url, body, {"Content-Type": "application/json"}))["event_id"]
        # The last event: a slow answer comes after some of the kind `heartbeat`.
        lines = request(f"{url}/{event}").decode().strip().splitlines()
        kind, data = (line.split(": ", 1)[1] for line in lines[-2:])
        if kind != "complete":
            raise DemoError(f"the app refused /{name}: {data}")
        return json.loads(data)[0]

    def upload(self, content: bytes) -> dict[str, Any]:
        """Upload a PNG file; return it as an endpoint takes it."""
        mark = uuid.uuid4().hex
        head = (
            f"--{mark}\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n"
            "Content-Type: image/png\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        [path] = json.loads(request(f"{self.url}/gradio_api/upload", body, kind))
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def train(self) -> tuple[float, float]:
        """Start a run and stop it after its first step; return seconds and CPU seconds until it.

        The step is read from the run's log: many requests would take the processor from the run.
        """
        start, cpu_s = time.perf_counter(), self.cpu_s()
        run = self.call("train", CONFIG)
        log, deadline, kinds = Run(self.runs / run).log(), start + PATIENCE_S, set()
        while Step not in kinds:
            kinds = {type(event) for event in log}
            if kinds & {Failed, Stopped} or time.perf_counter() > deadline:
                seen = self.call("run", run)
                raise DemoError(f"run {run} is {seen['state']} without a step: {seen['message']}")
            time.sleep(STEP_POLL_S)
        seconds, cpu_s = time.perf_counter() - start, self.cpu_s() - cpu_s
        self.call("stop", run)
        while self.call("run", run)["state"] != "stopped":
            time.sleep(STEP_POLL_S)
        return seconds, cpu_s

    @contextmanager
    def open_page(self) -> Iterator[None]:
        """Keep asking for news, as an open page does."""
        closed = threading.Event()

        def poll() -> None:
            while not closed.wait(POLL_S):
                with suppress(OSError):
                    request(f"{self.url}/poll?known=data:0")

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            closed.set()
            thread.join()


@contextmanager
def started(paths: Paths, **variables: str) -> Iterator[MeasuredApp]:
    """Start the app on a free port with runs of its own, and end it. Raises DemoError."""
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        folder, port = Path(name), free_port()
        environment = {
            **os.environ,
            **paths.environment(),
            "RESNET_DEMO_RUNS": str(folder / "runs"),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            **variables,
        }
        url, start = f"http://127.0.0.1:{port}", time.perf_counter()
        log_file = folder / "app.log"
        with open(log_file, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: answers(url), lambda: process.poll() is None, log_file)
            yield MeasuredApp(process, url, folder / "runs", time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Return the number of a port that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # 0: the system picks a free port
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], bool], is_alive: Callable[[], bool], log_file: Path) -> None:
    """Wait for the app's first answer. Raises DemoError when it ended, or after PATIENCE_S."""
    deadline = time.perf_counter() + PATIENCE_S
    while not condition():
        if not is_alive() or time.perf_counter() > deadline:
            raise DemoError(f"the app did not start: {log_file.read_text()[-500:].strip()}")
        time.sleep(STEP_POLL_S)


def answers(url: str) -> bool:
    """Return whether the app serves its page."""
    with suppress(OSError):
        return bool(request(f"{url}/"))
    return False


def request(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the body of an answer. Raises OSError."""
    asked = urllib.request.Request(url, body, dict(headers or {}))
    # Without the proxies of the environment: the app is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=PATIENCE_S) as answer:
        return answer.read()
