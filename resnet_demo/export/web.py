"""A web page that classifies pictures in the browser: the ONNX file, onnxruntime-web and `page/`.

onnxruntime-web comes from a public CDN in one version, or is copied into the folder. Either way the
browser compares both of its files with the digests below before it runs them.
"""

import base64
import hashlib
import html
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from string import Template

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.export.formats import parity_text
from resnet_demo.export.onnx_file import write_onnx
from resnet_demo.export.parity import Parity
from resnet_demo.export.source import ExportSource
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.runs.text import accuracy_text, escape_markdown
from resnet_demo.runs.view import RunView

PAGE = Path(__file__).with_name("page")
MODEL, DESCRIPTION, RUNTIME_FOLDER = "model.onnx", "description.json", "ort"
VERSION = "1.30.0"  # of onnxruntime-web
CDN = "https://cdn.jsdelivr.net"
SPACE_FILES = "https://*.hf.co"
RUNTIME = {  # file and digest of the smallest build, the one without WebGPU
    "script": (
        "ort.wasm.bundle.min.mjs",
        "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    ),
    "wasm": (
        "ort-wasm-simd-threaded.wasm",
        "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    ),
}
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""  # of onnxruntime-web, whose package has no such file
SHOWN_CLASSES = 12
NPM_PATIENCE_S = 300
README = """---
title: {title}
emoji: 🔎
colorFrom: blue
colorTo: indigo
sdk: static
pinned: false
---

# {heading}

A page that names what a picture shows, in the browser: {classes}. Pictures stay on the device.

It needs a web server and nothing else: any static hosting, a static Space, or
`python -m http.server` in this folder. {runtime}
After the first visit it works without a connection. Cameras need https or localhost.

{proof}
The browser decodes the pictures: JPEG, PNG, WebP, GIF, BMP, and what else it reads.

In the page's console, `decode(file).then(classify)` returns the probabilities of a picture file.
"""


def write_web(source: ExportSource, folder: Path, offline: Path | bool | None) -> list[str]:
    """Write the network, its description and the runtime; return the file names.

    offline: see `copy_runtime`; None: the page takes the runtime from the CDN.
    Raises ConfigError if a package is missing, and as `copy_runtime`.
    """
    # A fixed name, which the page and its service worker know.
    (folder / write_onnx(source, folder)).rename(folder / MODEL)
    text = json.dumps(source.description(), indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", "utf-8")
    names = [MODEL, DESCRIPTION]
    if offline is not None:
        copy_runtime(folder / RUNTIME_FOLDER, offline)
        names.append(RUNTIME_FOLDER)
    return names


def write_page(
    source: ExportSource, folder: Path, parity: Parity, offline: Path | bool | None
) -> list[str]:
    """Write the page for a folder that has the network; return the file names."""
    # A fixed version with a digest: a CDN that serves other bytes is refused by the browser.
    place = "" if offline is not None else f"{CDN}/npm/onnxruntime-web@{VERSION}/dist/"
    runtime = {
        kind: {"url": (place or f"{RUNTIME_FOLDER}/") + name, "integrity": digest}
        for kind, (name, digest) in RUNTIME.items()
    }
    proof = parity_text(parity.to_dict())
    texts = {
        "title": html.escape(source.title),
        "classes": html.escape(classes_text(source.labels)),
        "about": html.escape(about_text(source)),
        "proof": html.escape(proof),
        # A Space may redirect large files to its own host of files.
        "connect": f"{CDN} {SPACE_FILES}" if place else SPACE_FILES,
        "runtime": json.dumps(runtime),
    }
    for name in ("index.html", "page.js", "page.css", "icon.svg"):
        # String.Template and no Jinja: the page is JavaScript, full of braces. `safe`: its own ${…}
        # stay.
        text = Template((PAGE / name).read_text("utf-8")).safe_substitute(texts)
        (folder / name).write_text(text, "utf-8")
    write_offline_script(source, folder, list(runtime.values()))
    readme = README.format(
        # JSON is YAML: quotes and colons are safe.
        title=json.dumps(source.title, ensure_ascii=False),
        heading=escape_markdown(source.title),
        classes=escape_markdown(classes_text(source.labels)),
        proof=proof,
        runtime=(
            "The runtime, onnxruntime-web, is in this folder."
            if offline is not None
            else f"The runtime, onnxruntime-web {VERSION}, comes from {CDN}, checked by its digest."
        ),
    )
    (folder / "README.md").write_text(readme, "utf-8")
    return ["index.html", "page.js", "page.css", "icon.svg", "offline.js", "README.md"]


def write_offline_script(source: ExportSource, folder: Path, runtime: list[dict[str, str]]) -> None:
    """Write the service worker, which keeps the page and its network in the browser.

    runtime: files of onnxruntime-web that it keeps too.
    """
    names = ["index.html", "page.js", "page.css", "icon.svg", MODEL, DESCRIPTION]
    content = hashlib.sha256()
    for name in names:
        content.update((folder / name).read_bytes())
    # "./" too: a visitor opens the folder, and the browser asks for it by that name.
    files = [["./", ""], *([name, ""] for name in names)]
    files += [[file["url"], file["integrity"]] for file in runtime]
    # The name of the cache follows from the content: a new export replaces what browsers keep.
    values = {"cache": json.dumps(content.hexdigest()[:16]), "files": json.dumps(files)}
    text = Template((PAGE / "offline.js").read_text("utf-8")).safe_substitute(values)
    (folder / "offline.js").write_text(text, "utf-8")


def copy_runtime(folder: Path, given: Path | bool) -> None:
    """Copy onnxruntime-web into a new folder.

    given: a folder that holds its files at any depth of npm's package; True: npm fetches them.
    Raises ConfigError for a folder without them or with another version, DemoError without npm.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = fetch_runtime(Path(temporary)) if given is True else Path(given)
        folder.mkdir()
        for name, digest in RUNTIME.values():
            # The folder may be dist, the package, or node_modules.
            places = (root / name, root / "dist" / name, root / "onnxruntime-web" / "dist" / name)
            found = next((path for path in places if path.is_file()), None)
            # Another version would be refused by the browser later, by its digest.
            if found is None or integrity(found) != digest:
                rule = f"a folder with the files of onnxruntime-web {VERSION} (dist/{name})"
                raise ConfigError.rule("offline", rule, str(root))
            shutil.copyfile(found, folder / name)
    (folder / "LICENSE").write_text(LICENCE, "utf-8")


def fetch_runtime(folder: Path) -> Path:
    """Fetch the package by npm and return its unpacked folder. Raises DemoError."""
    advice = "name a folder with its files: --offline FOLDER"
    npm = shutil.which("npm")
    if npm is None:
        raise DemoError(f"npm, which fetches onnxruntime-web, is not installed: {advice}")
    # Pack, not install: nothing of the package runs, and nothing but its archive arrives.
    command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=NPM_PATIENCE_S)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            for name, _ in RUNTIME.values():
                # No links, no paths outside.
                archive.extract(f"package/dist/{name}", folder, filter="data")
    except (subprocess.SubprocessError, StopIteration, KeyError, tarfile.TarError) as error:
        raise DemoError(f"npm could not fetch onnxruntime-web {VERSION}: {advice}") from error
    return folder / "package"


def integrity(path: Path) -> str:
    """Return the digest of a file as browsers write it: sha384-…"""
    digest = hashlib.sha384(path.read_bytes()).digest()
    return f"sha384-{base64.b64encode(digest).decode()}"


def classes_text(labels: tuple[str, ...]) -> str:
    """Return the classes for a sentence; of many only the first."""
    if len(labels) > SHOWN_CLASSES:
        return f"{len(labels):,} classes, such as {', '.join(labels[:3])}"
    return f"{', '.join(labels[:-1])} or {labels[-1]}"


def about_text(source: ExportSource) -> str:
    """Return a sentence on the network and its accuracy."""
    text = f"Network {source.saved.network['name']}, trained on {source.config.dataset}"
    fingerprint, view = source.run.fingerprint(), RunView(source.run.log())
    view.refresh()
    # Of few pictures their number is shown: a share alone would say too much.
    counts = {
        "test": fingerprint.images.get("test", 0) if fingerprint else 0,
        "val": view.best.val_images if view.best else 0,
    }
    for split, n in counts.items():
        top1 = source.saved.metrics.get(f"{split}_top1")
        if isinstance(top1, float):
            text += f": {SPLIT_NAMES[split]} accuracy {accuracy_text(top1, n)}"
            break
    return f"{text}. Made with ResNet Demo."
