"""A Hugging Face Space as a folder: build it, check it before it is uploaded, upload it.

It is the app, or an export of the format `web`, which is a static Space.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_demo.errors import ConfigError
from resnet_demo.export.hub import upload
from resnet_demo.files import is_new_or_empty
from resnet_demo.paths import REPOSITORY
from resnet_demo.tasks.limits import Limits, limit_variable

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SOURCE = ("app.py", "requirements.txt", "LICENSE", "README.md")
PACKAGE, RUNS = "resnet_demo", "checkpoints"
# Gradio writes a .pyi beside each module that has a subclass of a component.
LEFT_OUT = ("__pycache__", "*.pyc", "*.pyi", ".*")
SHIPPED = ("cifar10-shipped", "imagenet-efficientnet-lite0", "lessons/learn-*")
COMMIT_MESSAGE = "The Space as `space build` wrote it"
MAX_FILE_BYTES = 10_000_000  # of what is not LARGE: such a file is there by mistake
MAX_TOTAL_BYTES = 1_000_000_000
LARGE = (".safetensors", ".onnx", ".wasm")  # suffixes
MAX_SCAN_BYTES = 2_000_000  # of a file, searched for secrets
KEYS = {  # https://huggingface.co/docs/hub/spaces-config-reference
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "pinned",
    "license",
    "short_description",
    "models",
    "datasets",
    "tags",
    "hf_oauth",
    "hf_oauth_scopes",
    "startup_duration_timeout",
    "suggested_hardware",
}
# By kind of Space: settings (None: any value), and files.
NEEDED = {
    "gradio": {"title": None, "sdk": "gradio", "app_file": "app.py"},
    "static": {"title": None, "sdk": "static"},
}
NEEDED_FILES = {
    "gradio": ("app.py", "requirements.txt", f"{PACKAGE}/__init__.py"),
    "static": ("index.html",),
}
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
ZERO_HARDWARE = "zero-a10g"  # the name of ZeroGPU, whatever GPU it lends
ZERO_PYTHON = "3.12"
ZERO_REQUIREMENTS = {  # ZeroGPU has torch 2.8 to 2.11; 2.10 is the first without the known hole
    "torch": ">=2.10,<2.12",
    "torchvision": ">=0.25,<0.27",
    "spaces": ">=0.51,<1",
}
SECRETS = re.compile(rb"\bhf_[A-Za-z0-9]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
STRAY = ("last*.pt*", "worker.log", "*.lock", ".env", ".cache", ".tasks", ".trash", ".git")
VARIABLES = {
    "RESNET_DEMO_OWNERS": "further owners: names at Hugging Face, separated by commas",
    "RESNET_DEMO_HOSTS": "further host names of the app, where a proxy gives it one",
    **{
        limit_variable(limit.name): f"{limit.metadata['help']} ({limit.default:,})"
        for limit in fields(Limits)
    },
}
PLATFORM_SECRETS = {
    "OAUTH_CLIENT_SECRET": "made by the Space for `hf_oauth: true`; nothing to set",
}


@dataclass(frozen=True)
class Problem:
    """A sentence on what is wrong with a file, and the file's path within the folder."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def build(
    folder: Path,
    repository: Path = REPOSITORY,
    title: str | None = None,
    zero_gpu: bool = False,
    runs: Iterable[Path] = (),
) -> list[Path]:
    """Write a Space into a new or empty folder; return its files, relative to the folder.

    zero_gpu: for ZeroGPU, which has other versions of PyTorch. runs: folders of packed runs, which
    the app lists first. Raises ConfigError if the folder has files, or if the Space would have a
    problem; then nothing is written.
    """
    folder = folder.resolve()
    if not is_new_or_empty(folder):
        raise ConfigError.rule("folder", "a folder that is new or empty", str(folder))
    # Built beside the folder and renamed when it has passed all checks.
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        copy_files(temporary, repository)
        for run in runs:
            shutil.copytree(run, temporary / RUNS / run.name)
        settings = {} if title is None else {"title": title}
        if zero_gpu:
            settings |= {"python_version": ZERO_PYTHON, "suggested_hardware": ZERO_HARDWARE}
            write_zero_requirements(temporary / "requirements.txt")
        set_front_matter(temporary / "README.md", settings)
        problems = check(temporary)
        if problems:
            raise ConfigError(f"the Space has a problem: {problems[0]}", "folder")
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def copy_files(folder: Path, repository: Path) -> None:
    """Copy the source, the package and the shipped runs, but nothing personal."""
    folder.mkdir(parents=True)
    # Named files only: other files of the checkout may be personal.
    for name in SOURCE:
        shutil.copyfile(repository / name, folder / name)
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(repository / PACKAGE, folder / PACKAGE, ignore=ignore)
    ignore = shutil.ignore_patterns(*LEFT_OUT, *STRAY)
    for pattern in SHIPPED:
        for run in sorted((repository / RUNS).glob(pattern)):
            shutil.copytree(run, folder / run.relative_to(repository), ignore=ignore)


def set_front_matter(readme: Path, settings: dict[str, str]) -> None:
    """Set keys of the front matter. A file without front matter is left for `check` to report."""
    from huggingface_hub import metadata_save

    if not settings:
        return
    try:
        metadata_save(readme, front_matter(readme) | settings)
    except ValueError:
        return


def write_zero_requirements(path: Path) -> None:
    """Replace the versions of PyTorch in requirements.txt by those of ZeroGPU, and add `spaces`."""
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if requirement_name(line) not in ZERO_REQUIREMENTS]
    zero = [f"{name}{versions}" for name, versions in ZERO_REQUIREMENTS.items()]
    path.write_text("\n".join([*kept, "# the versions of ZeroGPU", *zero, ""]), "utf-8")


def check(folder: Path) -> list[Problem]:
    """Return all that is wrong with a Space, and files that should not be uploaded.

    Raises ConfigError if this is not a folder.
    """
    if not folder.is_dir():
        raise ConfigError.rule("folder", "a folder", str(folder))
    return [*check_front_matter(folder), *check_zero(folder), *check_files(folder)]


def check_front_matter(folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with the settings at the top of README.md."""
    try:
        settings = front_matter(folder / "README.md")
    except (OSError, UnicodeDecodeError):
        yield Problem("README.md", "it cannot be read; it must describe the Space")
        return
    except ValueError as error:
        yield Problem("README.md", str(error))
        return
    for key in settings.keys() - KEYS:
        yield Problem("README.md", f"its front matter has an unknown key: {key!r}")
    kind = space_kind(settings)
    for key, value in NEEDED[kind].items():
        if key not in settings or (value and settings[key] != value):
            yield Problem("README.md", f"its front matter must have {key}: {value or '…'}")
    for key in ("colorFrom", "colorTo"):
        if settings.get(key, "blue") not in COLOURS:
            yield Problem("README.md", f"{key} must be one of {', '.join(COLOURS)}")
    for key in ("sdk_version", "python_version"):
        if isinstance(settings.get(key), float):  # YAML reads 3.10 as 3.1
            yield Problem("README.md", f"{key} must be in quotes, else it is read as a number")
    if len(str(settings.get("short_description", ""))) > 60:
        yield Problem("README.md", "short_description must have at most 60 letters")
    version = str(settings.get("sdk_version", ""))
    if kind == "gradio" and not accepts_version(requirements(folder).get("gradio"), version):
        yield Problem("README.md", f"sdk_version {version} does not fit requirements.txt")


def space_kind(settings: dict[str, Any]) -> str:
    """Return the kind of Space: static, where the settings say so, else gradio."""
    return "static" if settings.get("sdk") == "static" else "gradio"


def folder_kind(folder: Path) -> str:
    """Return the kind of Space of a folder, whose settings may be missing or wrong."""
    try:
        return space_kind(front_matter(folder / "README.md"))
    except (OSError, ValueError):
        return "gradio"


def check_zero(folder: Path) -> Iterator[Problem]:
    """Yield what keeps a Space that requests ZeroGPU from running there."""
    try:
        settings = front_matter(folder / "README.md")
    except (OSError, ValueError):  # reported by `check_front_matter`
        return
    if not str(settings.get("suggested_hardware", "")).startswith("zero-"):
        return
    if str(settings.get("python_version")) != ZERO_PYTHON:
        yield Problem("README.md", f"python_version must be {ZERO_PYTHON} on ZeroGPU")
    found = requirements(folder)
    for name, versions in ZERO_REQUIREMENTS.items():
        # Compared as `packaging` writes them: it sorts the parts of a range.
        if name not in found or str(found[name].specifier) != canonical_specifier(versions):
            yield Problem("requirements.txt", f"it must have {name}{versions} on ZeroGPU")


def check_files(folder: Path) -> Iterator[Problem]:
    """Yield files that are missing, too large, personal, or that hold a secret."""
    for name in NEEDED_FILES[folder_kind(folder)]:
        if not (folder / name).is_file():
            yield Problem(name, "it is missing")
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == "data" or any(path.match(pattern) for pattern in STRAY):
            yield Problem(name, "it belongs to this machine and must not be uploaded")
        if path.is_symlink():
            yield Problem(name, "it is a link, which leads out of the Space")
        elif path.is_file():
            size = path.stat().st_size
            total += size
            if size > MAX_FILE_BYTES and path.suffix not in LARGE:
                limit = f"at most {MAX_FILE_BYTES:,} are allowed"
                yield Problem(name, f"it has {size:,} bytes, and {limit}")
            elif has_secret(path):
                yield Problem(name, "it holds what looks like a secret")
    if total > MAX_TOTAL_BYTES:
        limit = f"at most {MAX_TOTAL_BYTES:,} are allowed"
        yield Problem(".", f"it has {total:,} bytes in all, and {limit}")


def has_secret(path: Path) -> bool:
    """Return whether the beginning of a file holds a token of the hub or a private key."""
    with open(path, "rb") as file:
        return bool(SECRETS.search(file.read(MAX_SCAN_BYTES)))


def front_matter(readme: Path) -> dict[str, Any]:
    """Return the settings at the top of README.md. Raises OSError, ValueError."""
    from huggingface_hub import metadata_load
    from yaml import YAMLError  # a dependency of huggingface_hub

    try:
        settings = metadata_load(readme)
    except YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"its front matter is not valid YAML: {reason}") from error
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise ValueError("its front matter must be lines of 'key: value'") from error
    if settings is None:
        raise ValueError("it must begin with front matter between two lines of three dashes")
    return settings


def requirements(folder: Path) -> dict[str, "Requirement"]:
    """Return name -> requirement of requirements.txt; empty if the file is missing."""
    path = folder / "requirements.txt"
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return {found.name: found for line in lines if (found := requirement(line))}


def requirement(line: str) -> "Requirement | None":
    """Return the requirement of a line; None for a comment or an option of pip."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line.partition("#")[0].strip())
    except InvalidRequirement:
        return None


def requirement_name(line: str) -> str | None:
    """Return the name of the package that a line requires, if it requires one."""
    found = requirement(line)
    return found.name if found else None


def canonical_specifier(versions: str) -> str:
    """Return a range of versions as `packaging` writes it."""
    from packaging.specifiers import SpecifierSet

    return str(SpecifierSet(versions))


def accepts_version(required: "Requirement | None", version: str) -> bool:
    """Return whether a version is in the required range. Without a requirement, any is."""
    from packaging.version import InvalidVersion, Version

    if required is None:
        return True
    try:
        return required.specifier.contains(Version(version))
    except InvalidVersion:
        return False


def push(folder: Path, repository: str, endpoint: str | None = None, **options: Any) -> str:
    """Upload a Space, which is created if it does not exist; return its address.

    Files of the Space that are not in the folder are removed. options: token and private, as for
    `hub.upload`. Raises ConfigError, DemoError.
    """
    if problems := check(folder):
        raise ConfigError(f"the folder is not a valid Space: {problems[0]}", "folder")
    return upload(
        folder,
        repository,
        COMMIT_MESSAGE,
        endpoint=endpoint,
        replace=True,  # files of an older version must not stay
        repo_type="space",
        space_sdk=folder_kind(folder),
        **options,
    )
