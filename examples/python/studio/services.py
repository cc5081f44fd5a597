"""What is behind the broker: services that paint and know nothing, to try it with, and boxes asked without it."""

import contextlib
import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

EXAMPLES = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def running(boxes: int) -> Iterator[tuple[str, list[str]]]:
    """Starts the examples' LLM service and so many of their ComfyUI boxes, on free ports, and ends them in the end.

    Gives the address of the one and those of the others.
    """
    with started("llm_service.py", "0") as models, started("comfyui_service.py", *["0"] * boxes) as painters:
        yield listening(models), [listening(painters) for _ in range(boxes)]


@contextlib.contextmanager
def started(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Starts one of the examples' services, and ends it in the end."""
    command = [sys.executable, str(EXAMPLES / program), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            yield service
        finally:
            service.kill()


def listening(service: subprocess.Popen[str]) -> str:
    """The next address that the service says it listens on."""
    assert service.stdout is not None
    line = service.stdout.readline()
    if not line.startswith("listening on "):
        raise OSError(f"{service.args!r} did not start")
    return line.split()[-1]


class Box:
    """A ComfyUI box, as somebody meets it who does not know of the broker."""

    def __init__(self, address: str) -> None:
        self.url = address.rstrip("/") if "://" in address else f"http://{address}"
        self.client_id = str(uuid.uuid4())

    def submit(self, workflow: dict[str, Any]) -> str:
        """Queues a prompt at the box itself and returns its id."""
        asked = {"prompt": workflow, "client_id": self.client_id}
        return self._ask("/prompt", json.dumps(asked).encode())["prompt_id"]

    def queue(self) -> tuple[list[str], list[str]]:
        """The ids of what runs, and of what waits."""
        told = self._ask("/queue")
        return [item[1] for item in told["queue_running"]], [item[1] for item in told["queue_pending"]]

    def workflow(self) -> dict[str, Any]:
        """The workflow of what runs, with files by the names that they have here."""
        return self._ask("/queue")["queue_running"][0][2]

    def ending(self, prompt_id: str) -> str:
        """How a prompt has ended: `success`, `interrupted`, `error`; empty if it has not, or was never here."""
        status = self._history(prompt_id).get("status", {})
        told = [kind for kind, _ in status.get("messages", [])]
        return "interrupted" if "execution_interrupted" in told else status.get("status_str", "")

    def stay(self, prompt_id: str) -> tuple[int, int]:
        """When a prompt came and when it ended, in milliseconds by the box's clock."""
        entry = self._history(prompt_id)
        return entry["prompt"][3]["create_time"], entry["status"]["messages"][-1][1]["timestamp"]

    def most_at_once(self) -> int | None:
        """The most prompts that were here at once since this was last asked, if the box counts: real ones do not."""
        try:
            return self._ask("/stats")["most_at_once"]
        except urllib.error.HTTPError:
            return None

    def _history(self, prompt_id: str) -> dict[str, Any]:
        return self._ask(f"/history/{prompt_id}").get(prompt_id, {})

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
