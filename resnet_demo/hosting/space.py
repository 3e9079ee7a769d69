"""A folder that is a Hugging Face Space: built, looked through before it travels, uploaded."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.paths import REPOSITORY
from resnet_demo.tasks.limits import Limits, limit_variable

SOURCE = ("app.py", "requirements.txt", "LICENSE", "README.md")
PACKAGE = "resnet_demo"
LEFT_OUT = ("__pycache__", "*.pyc", "*.pyi", ".*")
SHIPPED = ("cifar10-shipped", "lessons/learn-*")
MESSAGE = "The app as `space build` wrote it"
MOST_FILE = 10_000_000  # bytes: beyond, the hub wants large-file storage
MOST_ALL = 1_000_000_000
MOST_READ = 2_000_000  # bytes of a file that are looked through for secrets
KEYS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version"),
    *("app_file", "pinned", "license", "short_description", "models", "datasets", "tags"),
    *("hf_oauth", "startup_duration_timeout", "suggested_hardware"),
}
ZERO_HARDWARE = "zero-a10g"  # how ZeroGPU is asked for, whatever GPU it lends
ZERO_PYTHON = "3.12"
ZERO_REQUIREMENTS = {  # ZeroGPU has torch 2.8 to 2.11, of which 2.10 is the first that is safe
    "torch": ">=2.10,<2.12",
    "torchvision": ">=0.25,<0.27",
    "spaces": ">=0.51,<1",
}
NEEDED = {"title": None, "sdk": "gradio", "app_file": "app.py"}  # None: any value
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SECRETS = re.compile(rb"\bhf_[A-Za-z0-9]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
STRAY = ("last*.pt*", "worker.log", "*.lock", ".env", ".cache", ".tasks", ".trash", ".git")
VARIABLES = {
    "RESNET_DEMO_OWNERS": "who may train beside its author: names at Hugging Face, by commas",
    "RESNET_DEMO_HOSTS": "other names under which the app may be asked, where a proxy gives it one",
    **{
        limit_variable(one.name): f"{one.metadata['help']} ({one.default:,})"
        for one in fields(Limits)
    },
}
SECRETS_GIVEN = {
    "OAUTH_CLIENT_SECRET": "the Space makes it for `hf_oauth: true`; there is nothing to be set",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of the folder, as a sentence; the file's path within it."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def build(
    folder: Path, repository: Path = REPOSITORY, title: str | None = None, zero_gpu: bool = False
) -> list[Path]:
    """Write what a Space needs into a new or empty folder; the files, relative to it.

    zero_gpu: for ZeroGPU, which has other versions of PyTorch. Raises ConfigError for a folder
    that is taken, and where something would be wrong with the Space; then nothing is there.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError.rule("folder", "a folder that is new or empty", str(folder))
    making = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    try:
        fill(making, repository, title)
        if zero_gpu:
            fit_zero(making)
        problems = check(making)
        if problems:
            raise ConfigError(f"the Space would not do: {problems[0]}", "folder")
        if folder.exists():
            folder.rmdir()
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def fill(making: Path, repository: Path, title: str | None) -> None:
    """Source, package and what came with the repository; nothing of a person's own."""
    making.mkdir(parents=True)
    for name in SOURCE:
        shutil.copyfile(repository / name, making / name)
    leave = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(repository / PACKAGE, making / PACKAGE, ignore=leave)
    for pattern in SHIPPED:
        for run in sorted((repository / "checkpoints").glob(pattern)):
            ignore = shutil.ignore_patterns(*LEFT_OUT, *STRAY)
            shutil.copytree(run, making / run.relative_to(repository), ignore=ignore)
    if title is not None:
        readme = making / "README.md"
        text = readme.read_text("utf-8")
        line = f"title: {title!r}" if ":" in title or "#" in title else f"title: {title}"
        readme.write_text(re.sub(r"(?m)^title: .*$", lambda _: line, text, count=1), "utf-8")


def fit_zero(making: Path) -> None:
    """Versions, Python and hardware as ZeroGPU has them."""
    path = making / "requirements.txt"
    names = "|".join(ZERO_REQUIREMENTS)
    others = re.sub(rf"(?m)^(?:{names})\b.*\n", "", path.read_text("utf-8"))
    caps = "".join(f"{name}{rule}\n" for name, rule in ZERO_REQUIREMENTS.items())
    path.write_text(f"{others}# as ZeroGPU has them\n{caps}", "utf-8")
    readme = making / "README.md"
    asked = f'python_version: "{ZERO_PYTHON}"\nsuggested_hardware: {ZERO_HARDWARE}'
    text = re.sub(r"(?m)^python_version: .*$", asked, readme.read_text("utf-8"), count=1)
    readme.write_text(text, "utf-8")


def check(folder: Path) -> list[Problem]:
    """All that would keep a folder from being a Space, or should not travel; empty where it is one.

    Raises ConfigError for what is no folder.
    """
    if not folder.is_dir():
        raise ConfigError.rule("folder", "a folder", str(folder))
    return [*of_front_matter(folder), *of_zero(folder), *of_files(folder)]


def of_front_matter(folder: Path) -> Iterator[Problem]:
    """What is wrong with the lines between the dashes at the top of README.md."""
    try:
        told = front_matter((folder / "README.md").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        yield Problem("README.md", "it cannot be read, and a Space is described there")
        return
    except ValueError as error:
        yield Problem("README.md", str(error))
        return
    for key in told.keys() - KEYS:
        yield Problem("README.md", f"its front matter has {key!r}, which a Space does not know")
    for key, value in NEEDED.items():
        if key not in told or (value and told[key] != value):
            yield Problem("README.md", f"its front matter must have {key}: {value or '…'}")
    for key in ("colorFrom", "colorTo"):
        if told.get(key, "blue") not in COLOURS:
            yield Problem("README.md", f"{key} must be one of {', '.join(COLOURS)}")
    if len(told.get("short_description", "")) > 60:
        yield Problem("README.md", "short_description must have at most 60 letters")
    pinned = re.search(r"(?m)^gradio[^0-9]*([0-9.]+),<([0-9]+)", requirements(folder))
    version = told.get("sdk_version", "")
    if pinned and not fits_range(version, pinned[1], pinned[2]):
        yield Problem("README.md", f"sdk_version {version} does not fit requirements.txt")


def of_zero(folder: Path) -> Iterator[Problem]:
    """What is wrong with a folder that asks for ZeroGPU; nothing of one that does not."""
    try:
        told = front_matter((folder / "README.md").read_text("utf-8"))
    except (OSError, ValueError):  # told already
        return
    if not told.get("suggested_hardware", "").startswith("zero-"):
        return
    if told.get("python_version") != ZERO_PYTHON:
        yield Problem("README.md", f"python_version must be {ZERO_PYTHON} on ZeroGPU")
    lines = requirements(folder).splitlines()
    for name, rule in ZERO_REQUIREMENTS.items():
        if not any(re.fullmatch(rf"{name}{re.escape(rule)}\s*(#.*)?", line) for line in lines):
            yield Problem("requirements.txt", f"it must have {name}{rule} on ZeroGPU")


def front_matter(text: str) -> dict[str, str]:
    """Its keys and values, as plain text. Raises ValueError."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if not found:
        raise ValueError("it must begin with front matter between two lines of three dashes")
    told = {}
    for line in found[1].splitlines():
        key, colon, value = line.partition(":")
        if not colon or not key.strip():
            raise ValueError(f"its front matter has a line that is no 'key: value': {line[:60]!r}")
        told[key.strip()] = value.strip().strip("\"'")
    return told


def fits_range(version: str, low: str, below: str) -> bool:
    """Whether low <= version < below, number by number."""
    try:
        parts = [[int(part) for part in text.split(".")] for text in (version, low, below)]
    except ValueError:
        return False
    return parts[1] <= parts[0] < parts[2]


def requirements(folder: Path) -> str:
    """The text of requirements.txt; "" where there is none, which `of_files` tells."""
    path = folder / "requirements.txt"
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def of_files(folder: Path) -> Iterator[Problem]:
    """Files that are missing, too large, somebody's own, or that hold a secret."""
    for name in ("app.py", "requirements.txt", f"{PACKAGE}/__init__.py"):
        if not (folder / name).is_file():
            yield Problem(name, "it is missing")
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == "data" or any(path.match(pattern) for pattern in STRAY):
            yield Problem(name, "it should not travel: it is of the machine it was made on")
        if path.is_symlink():
            yield Problem(name, "it is a link, which leads out of the Space")
        elif path.is_file():
            size = path.stat().st_size
            total += size
            if size > MOST_FILE:
                yield Problem(name, f"it has {size:,} bytes, and at most {MOST_FILE:,} are allowed")
            elif holds_secret(path):
                yield Problem(name, "it holds what looks like a secret")
    if total > MOST_ALL:
        yield Problem(".", f"it has {total:,} bytes in all, and at most {MOST_ALL:,} are allowed")


def holds_secret(path: Path) -> bool:
    """Whether its beginning has a token of the hub, or a private key."""
    with open(path, "rb") as file:
        return bool(SECRETS.search(file.read(MOST_READ)))


def push(folder: Path, repository: str, endpoint: str | None = None) -> str:
    """Upload a folder that is a Space, which is made where it is not there; its address.

    What lies in the Space and not in the folder is removed. Signed in by HF_TOKEN, or as
    `hf auth login` left it. Raises ConfigError, DemoError; then the Space is as it was.
    """
    if problems := check(folder):
        raise ConfigError(f"the folder is no Space: {problems[0]}", "folder")
    from huggingface_hub import HfApi, errors

    hub = HfApi(endpoint)
    told = {"repo_id": repository, "repo_type": "space"}
    try:
        address = hub.create_repo(**told, space_sdk="gradio", exist_ok=True, token=True)
        hub.upload_folder(
            **told, folder_path=folder, delete_patterns="*", commit_message=MESSAGE, token=True
        )
    except errors.HFValidationError as error:
        raise ConfigError.rule("repository", "OWNER/NAME at Hugging Face", repository) from error
    except errors.LocalTokenNotFoundError as error:
        told_how = "set HF_TOKEN, or `hf auth login`"
        raise ConfigError(f"nobody is signed in at Hugging Face: {told_how}", "token") from error
    except errors.HfHubHTTPError as error:
        raise DemoError(f"Hugging Face refused: {in_short(error)}") from error
    except (errors.HTTPError, OSError) as error:
        raise DemoError(f"Hugging Face cannot be reached: {type(error).__name__}") from error
    return str(address)


def in_short(error: Exception) -> str:
    """The status and what the server says of it, in one line."""
    status = getattr(getattr(error, "response", None), "status_code", "no answer")
    said = getattr(error, "server_message", None) or "it says no more"
    return f"{status}, {' '.join(said.split())[:200]}"
