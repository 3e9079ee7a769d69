"""Checks of the environment variables that the app and Gradio read at the start.

Gradio converts some of them while it is imported, and ends in a traceback where they make no sense.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from resnet_demo.errors import ConfigError
from resnet_demo.hosting.security_headers import host_name
from resnet_demo.tasks.limits import Limits, limit_variable, parse_limit

STANDBY = "RESNET_DEMO_STANDBY"  # 0: an open page loads torch only when it is needed
PORTS = ("GRADIO_SERVER_PORT", "GRADIO_NODE_SERVER_PORT")
MAX_PORT = 65535
WHOLE_NUMBERS = (
    *("GRADIO_NUM_PORTS", "GRADIO_NODE_NUM_PORTS", "GRADIO_NUM_WORKERS", "GRADIO_DEBUG"),
    *("GRADIO_ANALYTICS_MAX_EVENTS", "GRADIO_ANALYTICS_CACHE_FREQUENCY"),
)


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise ConfigError, naming variable, rule and value, for a value that makes no sense."""
    for name in PORTS:
        check_number(environment, name, 1, MAX_PORT)
    for name in WHOLE_NUMBERS:
        check_number(environment, name, 0, 10**12)
    public = environment.get("RESNET_DEMO_PUBLIC", "")
    if public not in ("", "0", "1"):  # a wrong word must not leave the app open
        raise ConfigError.rule("RESNET_DEMO_PUBLIC", "0 or 1", public)
    if (standby := environment.get(STANDBY, "")) not in ("", "0", "1"):
        raise ConfigError.rule(STANDBY, "0 or 1", standby)
    for limit in fields(Limits):
        if (text := environment.get(limit_variable(limit.name), "")).strip():
            parse_limit(limit.name, text)
    for host in environment.get("RESNET_DEMO_HOSTS", "").split(","):
        if host.strip() and ("/" in host or not host_name(host.strip())):
            rule = "names of hosts such as demo.example.org, separated by commas"
            raise ConfigError.rule("RESNET_DEMO_HOSTS", rule, host)
    check_listening_address(environment.get("GRADIO_SERVER_NAME", ""))
    check_upload_folder(environment.get("GRADIO_TEMP_DIR", ""))


def check_number(environment: Mapping[str, str], name: str, low: int, high: int) -> None:
    """Raise ConfigError unless a variable is unset or a whole number in that range."""
    if name not in environment:
        return
    text = environment[name].strip()
    # `isdigit` alone is true of `²`, too, and int() takes long for very many digits.
    if not (text.isascii() and text.isdigit()) or not low <= int(text[:20]) <= high:
        raise ConfigError.rule(name, f"a whole number from {low} to {high}", environment[name])


def check_listening_address(name: str) -> None:
    """Raise ConfigError unless the app can listen at that address; "" is the default."""
    if not name:
        return
    try:
        family, *_, address = socket.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        # Port 0, any free one: only the address is tried.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        rule = "an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
        raise ConfigError.rule("GRADIO_SERVER_NAME", rule, name) from error


def check_upload_folder(name: str) -> None:
    """Raise ConfigError unless uploads can be stored in that folder; "" is the default."""
    if not name:
        return
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
        is_writable = os.access(name, os.W_OK | os.X_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        raise ConfigError.rule("GRADIO_TEMP_DIR", "a folder that can be written to", name)
