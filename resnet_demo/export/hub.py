"""Uploads to the Hugging Face Hub, of a model or of a Space. No torch here: the page uploads."""

import re
from pathlib import Path
from typing import Any

from resnet_demo.errors import ConfigError, DemoError

COMMIT_MESSAGE = "The model as `export --push` wrote it"
TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{8,2000}")  # what an HTTP header may carry
NOT_SIGNED_IN = "not signed in at Hugging Face: set HF_TOKEN, or run `hf auth login`"


def push_model(folder: Path, repository: str, **options: Any) -> str:
    """Upload a folder of `model_repository.write_model`; return the model's address.

    options: token, endpoint and private, as for `upload`. Raises as `upload`.
    """
    return upload(folder, repository, COMMIT_MESSAGE, **options)


def upload(
    folder: Path,
    repository: str,
    message: str,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    private: bool = False,
    replace: bool = False,
    **repo: Any,
) -> str:
    """Upload a folder, into a repository that is made if missing; return its address.

    message: of the commits, more than one only for a large folder. token: without one, HF_TOKEN, or
    what `hf auth login` stored. private: a new repository is. replace: remove files of the
    repository that are not in the folder. repo: options of `create_repo`.
    Raises ConfigError, DemoError.
    """
    # Imported here: the page and the command line start without it.
    from huggingface_hub import HfApi, errors

    check_repository(repository)
    if token is not None:
        check_token(token)
    hub, signed = HfApi(endpoint), token or True  # True: the client looks for a stored token itself
    kind = repo.get("repo_type", "model")
    try:
        address = hub.create_repo(
            # None, not False: an existing private repository must not be refused for being private.
            repository,
            exist_ok=True,
            private=private or None,
            token=signed,
            **repo,
        )
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
    except RuntimeError as error:  # of a large file, whatever the reason
        raise DemoError(f"Hugging Face did not accept a file: {str(error)[:200]}") from error
    return str(address)


def check_repository(name: str, field: str = "repository") -> None:
    """Raise ConfigError for a name without an owner, which the hub accepts in some places only."""
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest):
        raise repository_error(name, field)


def check_token(token: str) -> None:
    """Raise ConfigError, without the text, for a text that cannot be a token."""
    if not TOKEN.fullmatch(token):
        raise ConfigError(
            "token must be an access token of Hugging Face, got another text", "token"
        )


def repository_error(name: str, field: str = "repository") -> ConfigError:
    """Return the error for a repository's name that the hub would refuse."""
    return ConfigError.rule(field, "OWNER/NAME at Hugging Face", name)


def refusal_text(error: Exception) -> str:
    """Return the status and the server's message in one line."""
    status = getattr(getattr(error, "response", None), "status_code", "no answer")
    message = getattr(error, "server_message", None) or "no further message"
    return f"{status}, {' '.join(message.split())[:200]}"
