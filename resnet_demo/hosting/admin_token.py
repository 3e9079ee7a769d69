"""The admin token: compared in constant time, guesses counted, and a cookie in its place."""

import hashlib
import hmac
import secrets
import time

from starlette.requests import HTTPConnection

from resnet_demo.errors import ConfigError
from resnet_demo.tasks.throttle import Throttle

SHORTEST = 16
COOKIE = "resnet_demo_owner"
COOKIE_S = 7 * 24 * 3600
GUESSES, GUESSES_S = 5, 600.0  # from one address
ALL_GUESSES, ALL_S = 100, 600.0  # from everywhere: addresses can be had in number
ANYWHERE = "anywhere"


class Key:
    """Who knows the token is the owner. The cookie's own key is made anew at each start."""

    def __init__(self, token: str) -> None:
        if len(token) < SHORTEST:
            rule = f"must have at least {SHORTEST} characters, got {len(token)}"
            raise ConfigError(f"RESNET_DEMO_ADMIN_TOKEN {rule}", "RESNET_DEMO_ADMIN_TOKEN")
        self.digest, self.signing = digest(token), secrets.token_bytes(32)
        self.guesses = Throttle(GUESSES, GUESSES_S)
        self.all_guesses = Throttle(ALL_GUESSES, ALL_S)

    def wait(self, where: str) -> float:
        """Seconds until a token from there is looked at again; 0: it is now."""
        return max(self.guesses.wait(where), self.all_guesses.wait(ANYWHERE))

    def is_right(self, token: str, where: str) -> bool:
        """Whether that is the token; False also where there were too many wrong ones."""
        if self.wait(where) > 0:
            return False
        right = hmac.compare_digest(digest(token), self.digest)
        if not right:
            self.guesses.note(where)
            self.all_guesses.note(ANYWHERE)
        return right

    def cookie(self) -> str:
        """What a browser is given once it has told the token."""
        until = str(int(time.time()) + COOKIE_S)
        return f"{until}.{self.sign(until)}"

    def opens(self, request: HTTPConnection, where: str) -> bool:
        """Whether a request has that cookie, or the token itself as a program sends it."""
        until, _, signature = request.cookies.get(COOKIE, "").partition(".")
        if hmac.compare_digest(signature.encode(), self.sign(until).encode()):
            return int(until) > time.time()
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.is_right(token.strip(), where)

    def sign(self, until: str) -> str:
        """The signature of a date."""
        return hmac.new(self.signing, until.encode(), hashlib.sha256).hexdigest()


def digest(token: str) -> bytes:
    """Of one length whatever it is of, so that comparing tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
