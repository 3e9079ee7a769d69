"""Who asks: the one place where a request becomes a Caller.

On a person's own machine everybody who reaches the page is its owner. In public the owner is known
by a login at Hugging Face, on a Space alone (elsewhere Gradio only plays at logging in), or by the
admin token, everywhere else. Where neither is set up nobody changes anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import time

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from resnet_demo.hosting.admin_token import Key
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.limits import is_public

OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


@dataclass(frozen=True)
class Access:
    """way: `local`, or in public `login`, `token` or `closed`; space: the id of the Space it is.

    owners: who may change things, by their names at Hugging Face, lower case.
    """

    way: str = "local"
    space: str | None = None
    owners: frozenset[str] = frozenset()
    key: Key | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Access":
        """What the owner has set up. Raises ConfigError for a token that is easily guessed."""
        if not is_public(environment):
            return cls()
        space = environment.get("SPACE_ID")
        if space is not None:
            owners = owners_of(space, environment)
            # Gradio plays at logging in unless SYSTEM says so, and signs with the client's secret
            real = environment.get("SYSTEM") == "spaces" and all(map(environment.get, OAUTH))
            return cls("login" if real and owners else "closed", space, owners)
        token = environment.get("RESNET_DEMO_ADMIN_TOKEN", "")
        return cls("token", key=Key(token)) if token else cls("closed")

    @property
    def public(self) -> bool:
        """Whether strangers may ask."""
        return self.way != "local"

    def caller(self, request: HTTPConnection | None) -> Caller:
        """Who sent it; a stranger where nobody can tell."""
        if not self.public:
            return Caller()
        if request is None:
            return Caller("nobody", is_owner=False)
        where = self.address(request)
        if self.way == "login":
            name = login(request)
            return Caller(name or where, name in self.owners, signed_in=name is not None)
        if self.key is not None and self.key.opens(request, where):
            return Caller("owner")
        return Caller(where, is_owner=False)

    def address(self, request: HTTPConnection) -> str:
        """Where a request comes from, as far as it can be told.

        Before a Space stand the platform's own proxies: the last public address that they tell is
        the visitor's. What a visitor claims stands before it. Elsewhere the server has looked.
        """
        told = request.client.host if request.client else "unknown"
        if self.space is None:
            return told
        passed = request.headers.get("x-forwarded-for", "").split(",")
        return next((one.strip() for one in reversed(passed) if is_global(one.strip())), told)


def owners_of(space: str, environment: Mapping[str, str]) -> frozenset[str]:
    """The Space's author, and whom RESNET_DEMO_OWNERS names."""
    author = environment.get("SPACE_AUTHOR_NAME") or space.partition("/")[0]
    named = [author, *environment.get("RESNET_DEMO_OWNERS", "").split(",")]
    return frozenset(name.strip().lower() for name in named if name.strip())


def login(request: HTTPConnection) -> str | None:
    """The name at Hugging Face of who has signed in, lower case; for Spaces alone."""
    told = request.scope.get("session", {}).get("oauth_info") or {}
    if told.get("expires_at", 0) < time():
        return None
    name = told.get("userinfo", {}).get("preferred_username")
    return name.lower() if isinstance(name, str) and name else None


def is_global(address: str) -> bool:
    """Whether it is an address of the public net."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return False


def is_secure(request: HTTPConnection) -> bool:
    """Whether the browser speaks https, to the app or to a proxy before it."""
    headers: Headers = request.headers
    return "https" in (request.url.scheme, headers.get("x-forwarded-proto"))
