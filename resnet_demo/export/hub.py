"""Uploads to the Hugging Face Hub, of a model or of a Space."""

from pathlib import Path
from typing import Any

from resnet_demo.errors import ConfigError, DemoError

NOT_SIGNED_IN = "not signed in at Hugging Face: set HF_TOKEN, or run `hf auth login`"


def upload(
    folder: Path,
    repository: str,
    message: str,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    replace: bool = False,
    **repo: Any,
) -> str:
    """Upload a folder as one commit, into a repository made if missing; return its address.

    message: of the commit. token: without one, HF_TOKEN, or what `hf auth login` stored. replace:
    remove files of the repository that are not in the folder. repo: options of `create_repo`.
    Raises ConfigError, DemoError; the files in the repository are then unchanged.
    """
    from huggingface_hub import HfApi, errors

    check_repository(repository)
    hub, signed = HfApi(endpoint), token or True
    kind = repo.get("repo_type", "model")
    try:
        address = hub.create_repo(repository, exist_ok=True, token=signed, **repo)
        # Files above 10 MB need no preparation: the client stores them as the hub requires.
        hub.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            delete_patterns="*" if replace else None,
            commit_message=message,
            token=signed,
        )
    except errors.HFValidationError as error:
        raise repository_error(repository) from error
    except errors.LocalTokenNotFoundError as error:
        raise ConfigError(NOT_SIGNED_IN, "token") from error
    except errors.HfHubHTTPError as error:
        raise DemoError(f"Hugging Face refused: {refusal_text(error)}") from error
    except (errors.HTTPError, OSError) as error:
        raise DemoError(f"Hugging Face cannot be reached: {type(error).__name__}") from error
    return str(address)


def check_repository(name: str) -> None:
    """Raise ConfigError for a name without an owner, which the hub accepts in some places only."""
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest):
        raise repository_error(name)


def repository_error(name: str) -> ConfigError:
    """Return the error for a repository's name that the hub would refuse."""
    return ConfigError.rule("repository", "OWNER/NAME at Hugging Face", name)


def refusal_text(error: Exception) -> str:
    """Return the status and the server's message in one line."""
    status = getattr(getattr(error, "response", None), "status_code", "no answer")
    message = getattr(error, "server_message", None) or "no further message"
    return f"{status}, {' '.join(message.split())[:200]}"
