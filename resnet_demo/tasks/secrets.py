"""What a worker is not told: it needs no password, and whatever it holds may end in a log."""

import re
from collections.abc import Mapping

NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|APIKEY|_KEY\b|_KEY_", re.IGNORECASE)
VALUES = re.compile(r"\bhf_[A-Za-z0-9]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment less all that is a secret by its name or its look."""
    return {
        name: value
        for name, value in environment.items()
        if not NAMES.search(name) and not VALUES.search(value)
    }
