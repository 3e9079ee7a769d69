"""Who asks. Every handler that changes something is given one."""

from dataclasses import dataclass

from resnet_demo.errors import DemoError


class ForbiddenError(DemoError):
    """The caller may not do that here."""


@dataclass(frozen=True)
class Caller:
    """Someone who asks, by name. On a person's own machine: the owner, who may do everything.

    signed_in: the name is one of Hugging Face; else it is where a visitor comes from.
    """

    name: str = "owner"
    is_owner: bool = True
    signed_in: bool = False

    def must_own(self, what: str) -> None:
        """Raises ForbiddenError for anyone but the owner."""
        if not self.is_owner:
            raise ForbiddenError(f"only the owner of this app may {what}")
