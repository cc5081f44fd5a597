"""A prompt from its picture to its result: sent, watched, saved."""

import dataclasses
import json
import mimetypes
import pathlib
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from sublet.v1 import operation_pb2

from .studio import Studio

Events = Generator[operation_pb2.Event, None, None]


@dataclasses.dataclass
class Painting:
    """What a prompt's stream has told so far."""

    prompt_id: str = ""
    endpoint: str = ""
    progress: list[float] = dataclasses.field(default_factory=list)
    preview: bytes = b""
    preview_name: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    latest: dict[str, Any] = dataclasses.field(default_factory=dict)

    def take(self, event: operation_pb2.Event) -> str:
        """Takes an event in and says what it was."""
        match event.WhichOneof("event"):
            case "accepted":
                self.endpoint = event.accepted.endpoint
                return "accepted"
            case "progress":
                self.progress.append(event.progress["overall"])
                return "progress"
            case "data":
                self._receive(event.data)
                return "data"
            case "json_text":
                return self._hear(json.loads(event.json_text))
            case kind:
                return str(kind)

    def _hear(self, told: dict[str, Any]) -> str:
        self.latest = told
        self.prompt_id = told.get("prompt_id", self.prompt_id)
        if told["event"] == "preview":
            self.preview, self.preview_name = b"", f"preview{mimetypes.guess_extension(told['content_type']) or ''}"
        return told["event"]

    def _receive(self, part: bytes) -> None:
        """Bytes belong to what was announced last."""
        if self.latest["event"] == "preview":
            self.preview += part
        else:
            name = self.latest.get("filename", f"node {self.latest['node']}.png")
            self.files[name] = self.files.get(name, b"") + part


def follow(events: Iterable[operation_pb2.Event]) -> Painting:
    """Reads a prompt's stream to its end."""
    painting = Painting()
    for event in events:
        painting.take(event)
    return painting


def paint(studio: Studio) -> None:
    """Sends a picture, shows how its prompt gets on, and saves what comes of it."""
    params = studio.prompt(preview_fps=10, outputs="bytes")
    painting = Painting()
    for event in studio.sublet.stream(studio.art, "queue_prompt", params):
        if painting.take(event) == "progress":
            print(f"\r{painting.endpoint}: {painting.progress[-1]:4.0%}", end="", flush=True)
    print(f"\r{painting.endpoint}: {painting.latest['event']}")
    rising = painting.progress == sorted(painting.progress)
    studio.seen(f"progress, {len(painting.progress)} times", rising and len(painting.progress) > 1)
    studio.seen(f"a preview, saved: {save(studio.folder, previews(painting))}", bool(painting.preview))
    studio.seen(f"the result, saved: {save(studio.folder, painting.files)}", bool(painting.files))


def previews(painting: Painting) -> dict[str, bytes]:
    """The latest preview by its name, if there is one."""
    return {painting.preview_name: painting.preview} if painting.preview else {}


def save(folder: pathlib.Path, files: Mapping[str, bytes]) -> str:
    """Writes files below the folder, whatever paths a box may have made of their names, and says where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / pathlib.PurePath(name).name for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    return ", ".join(map(str, paths))
