"""What every step works with: the broker, its two pools, and what was seen of them so far."""

import base64
import dataclasses
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from sublet_client import Sublet

from .services import Box

# Steps of a prompt that is soon done, of one that takes seconds, and of one that only a cancel ends.
FEW, SOME, MANY = 10, 200, 10_000


@dataclasses.dataclass
class Studio:
    """The broker at `address`, a pool for chats, a pool of boxes by their endpoints' names, and a picture to send."""

    address: str
    sublet: Sublet
    llm: str
    art: str
    boxes: dict[str, Box]
    workflow: Mapping[str, Any]
    picture: bytes
    folder: pathlib.Path
    missed: int = 0
    """How much was to be seen and was not."""

    def seen(self, what: str, really: bool = True) -> None:
        """Notes something that was to be seen, with a line."""
        print(f"{'seen' if really else 'NOT SEEN'}: {what}", flush=True)
        self.missed += not really

    def prompt(self, steps: int | None = None, **more: Any) -> dict[str, Any]:
        """The params of a prompt. The picture goes with each: a box keeps it once."""
        picture = {"name": "picture.png", "base64": base64.b64encode(self.picture).decode()}
        return {"workflow": fresh(self.workflow, steps), "files": [picture], **more}


def fresh(workflow: Mapping[str, Any], steps: int | None = None) -> dict[str, Any]:
    """The workflow with seeds that no box has a result of yet, and, if it is given, with that number of steps."""
    new = {"seed": secrets.randbits(64)} | ({"steps": steps} if steps else {})
    return {
        number: node | {"inputs": {name: new.get(name, value) for name, value in node["inputs"].items()}}
        for number, node in workflow.items()
    }
