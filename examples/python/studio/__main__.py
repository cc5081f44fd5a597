"""Chats and paints through the broker, many boxes as one: run `cargo run --release -- serve`, then this.

Usage: python -m studio --with-services    (starts services that know and paint nothing, and ends them)
       python -m studio --models URL --boxes ADDRESS... --workflow FILE    (--help has everything)

It makes a pool of each kind, unless there is one of that name, and says of all that it is to show whether it was seen.
Exit code 0 means that all of it was.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sublet.v1 import pool_pb2
from sublet_client import PoolExists, Sublet, SubletError

from .cancelling import cancel
from .chatting import chat
from .painting import paint
from .services import Box, running
from .sharing import share
from .studio import Studio

BOXES = 6
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "attachment:picture.png"}},
    "2": {"class_type": "KSampler", "inputs": {"image": ["1", 0], "steps": 40, "seed": 0}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "studio"}},
}
STEPS: Mapping[str, Callable[[Studio], None]] = {
    "a chat": chat,
    "a picture": paint,
    "more prompts than boxes": share,
    "prompts cancelled": cancel,
}


def main() -> int:
    asked = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    with contextlib.ExitStack() as stack:
        if asked.with_services:
            asked.models, asked.boxes = stack.enter_context(running(BOXES))
        sublet = stack.enter_context(Sublet(asked.broker, name="studio"))
        try:
            studio = prepared(asked, sublet, stack)
        except SubletError as error:
            print(f"NOT SEEN: a broker with two pools: {error}")
            return 1
        # In a thread of its own, because a signal is raised in the main one, and gRPC does not survive it in mid-call.
        steps = threading.Thread(target=take_steps, args=(studio,), daemon=True)
        steps.start()
        steps.join()
        print(f"NOT SEEN: {studio.missed} of these" if studio.missed else "all of it was seen")
        return 1 if studio.missed else 0


def stopped(number: int, _: object) -> None:
    """A signal ends the program, which deletes its pools and ends its services on the way."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def take_steps(studio: Studio) -> None:
    for name, step in STEPS.items():
        attempt(studio, name, step)


def attempt(studio: Studio, name: str, step: Callable[[Studio], None]) -> None:
    """Takes a step; whatever ends it early, the others are still worth seeing."""
    print(f"-- {name}", flush=True)
    try:
        step(studio)
    except Exception as error:
        studio.seen(f"{name}, to its end: {type(error).__name__}: {error}", False)


def prepared(asked: argparse.Namespace, sublet: Sublet, stack: contextlib.ExitStack) -> Studio:
    """The pools, made or taken."""
    print("-- pools", flush=True)
    llm = {"endpoints": [{"address": asked.models}], "llm": {"defaults": {"model": asked.model}}}
    stack.enter_context(pool(sublet, asked.llm_pool, llm))
    boxes = [
        {"name": f"box-{number}", "address": address, "maxSessions": 1} for number, address in enumerate(asked.boxes, 1)
    ]
    art = stack.enter_context(pool(sublet, asked.art_pool, {"endpoints": boxes, "comfyui": {}}))
    endpoints = {endpoint.name or endpoint.address: endpoint for endpoint in art.spec.endpoints}
    studio = Studio(
        address=asked.broker,
        sublet=sublet,
        llm=asked.llm_pool,
        art=asked.art_pool,
        boxes={name: Box(endpoint.address) for name, endpoint in endpoints.items()},
        workflow=json.loads(asked.workflow.read_text()) if asked.workflow else WORKFLOW,
        picture=asked.picture.read_bytes() if asked.picture else PICTURE,
        folder=asked.folder,
    )
    for name, box in studio.boxes.items():
        print(f"{name} is at {box.url}")
    single = all(endpoint.max_sessions == 1 for endpoint in endpoints.values())
    studio.seen(f"{len(endpoints)} boxes in one pool, with a slot each: {', '.join(endpoints)}", single)
    return studio


@contextlib.contextmanager
def pool(sublet: Sublet, name: str, spec: Mapping[str, Any]) -> Iterator[pool_pb2.Pool]:
    """Makes a pool and deletes it in the end; or takes the one that is there, and leaves it."""
    with contextlib.ExitStack() as made:
        try:
            sublet.create_pool(name, spec)
            made.callback(sublet.delete_pool, name, force=True)
            print(f"made pool {name}")
        except PoolExists:
            print(f"took pool {name}, which was there")
        yield sublet.get_pool(name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="studio", description="Chats and paints through the broker.")
    parser.add_argument("--broker", default="127.0.0.1:50051", metavar="ADDRESS")
    parser.add_argument("--with-services", action="store_true", help="start and end services to try it with")
    parser.add_argument("--models", default="http://127.0.0.1:8000/v1", metavar="URL", help="it speaks as OpenAI does")
    parser.add_argument("--model", default="parrot", help="the model that a new pool uses")
    boxes = [f"127.0.0.1:{port}" for port in range(8188, 8188 + BOXES)]
    parser.add_argument("--boxes", default=boxes, nargs="+", metavar="ADDRESS", help="ComfyUI boxes, three at least")
    parser.add_argument("--llm-pool", metavar="NAME", help="made unless it is there")
    parser.add_argument("--art-pool", metavar="NAME", help="made unless it is there")
    parser.add_argument("--workflow", type=pathlib.Path, metavar="FILE", help="in the API format; real boxes need one")
    parser.add_argument("--picture", type=pathlib.Path, metavar="FILE", help="the workflow's attachment:picture.png")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("pictures"), help="for what is painted")
    asked = parser.parse_args()
    # Services of one's own want pools of one's own: another run's lead to other ports.
    own = f"-{os.getpid()}" if asked.with_services else ""
    asked.llm_pool = asked.llm_pool or f"studio-llm{own}"
    asked.art_pool = asked.art_pool or f"studio-art{own}"
    return asked


if __name__ == "__main__":
    sys.exit(main())
