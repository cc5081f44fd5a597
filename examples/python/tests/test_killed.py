"""A client that is killed in the middle of a stream: its work ends at the backend, and nobody else's does."""

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from studio import services
from studio.services import Box
from sublet_client import BackendError, Sublet

WATCHER = """
import json, os, sys, threading
from sublet_client import Sublet
address, how, pool, operation, params, awaited = sys.argv[1:]
# Not to outlive tests that are killed themselves.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
sublet = Sublet(address)
if how == "one-shot":
    events = sublet.stream(pool, operation, params)
else:
    held = sublet.lease(pool)
    events = held.stream(operation, params)
told = False
# It reads on, so that only its death can end it.
for event in events:
    kind = event.WhichOneof("event")
    if kind == "json_text":
        kind = json.loads(event.json_text)["event"]
    if kind == awaited and not told:
        print(kind, flush=True)
        told = True
"""
HOW = pytest.mark.parametrize("how", ["one-shot", "lease"])


@contextlib.contextmanager
def watching(broker, how: str, pool: str, operation: str, params: dict, awaited: str) -> Iterator[subprocess.Popen]:
    """A process that streams an operation, once the awaited event has come."""
    command = [sys.executable, "-c", WATCHER, broker.address, how, pool, operation, json.dumps(params), awaited]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        try:
            assert watcher.stdout.readline().strip() == awaited
            yield watcher
        finally:
            # SIGKILL: nothing of the client's own says goodbye.
            watcher.kill()


@contextlib.contextmanager
def pool(sublet: Sublet, name: str, spec: dict) -> Iterator[str]:
    sublet.create_pool(name, spec)
    try:
        yield name
    finally:
        sublet.delete_pool(name, force=True)


@pytest.fixture
def llm(sublet: Sublet) -> Iterator[tuple[str, subprocess.Popen]]:
    """A pool, and the provider behind it, which tells whose listener has gone."""
    with services.started("llm_service.py", "0") as provider:
        endpoints = [{"address": services.listening(provider)}]
        own = {"defaults": {"model": "chatterbox"}}
        with pool(sublet, "killed-llm", {"llm": own, "endpoints": endpoints, "sizing": {"maxSessions": 2}}) as name:
            yield name, provider


@pytest.fixture
def art(sublet: Sublet) -> Iterator[tuple[str, dict[str, Box]]]:
    """A pool of two boxes with a slot each, and the boxes."""
    with services.started("comfyui_service.py", "0", "0") as painters:
        endpoints = [
            {"name": name, "address": services.listening(painters), "maxSessions": 1} for name in ("attic", "cellar")
        ]
        with pool(sublet, "killed-art", {"comfyui": {}, "endpoints": endpoints}) as name:
            yield name, {endpoint["name"]: Box(endpoint["address"]) for endpoint in endpoints}


def first_gone(provider: subprocess.Popen) -> str:
    """What the provider says of the next listener who goes, once one has."""
    return next(line.strip() for line in provider.stdout if line.startswith("who said"))


@HOW
def test_the_provider_loses_a_killed_clients_request_and_no_other(broker, sublet, llm, how):
    name, provider = llm
    with contextlib.closing(sublet.stream(name, "chat", {"prompt": "and I stay"})) as other:
        next(event for event in other if event.text)
        with watching(broker, how, name, "chat", {"prompt": "I go on and on"}, "text") as watcher:
            watcher.kill()
            assert first_gone(provider) == "who said 'I go on and on' has gone"
        # Of an endless answer there is always more.
        heard = [next(other).text for _ in range(1000)]
        assert " ".join("".join(heard).split()).count("and I stay") > 300
    assert first_gone(provider) == "who said 'and I stay' has gone"


def prompt(steps: int, **more: object) -> dict:
    workflow = {
        "1": {"class_type": "EmptyImage", "inputs": {}},
        "2": {"class_type": "KSampler", "inputs": {"image": ["1", 0], "steps": steps}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    }
    return {"workflow": workflow, **more}


def outcome(sublet: Sublet, name: str, endpoint: str, prompt_id: str) -> str:
    """Waits until a prompt is at an end, whoever queued it, and says which."""
    while True:
        try:
            answer = sublet.execute(name, "wait", {"prompt_id": prompt_id}, endpoint=endpoint).value
        except BackendError as error:
            return error.metadata["kind"]
        if "status" in answer:
            return answer["status"]


@HOW
def test_a_killed_clients_running_prompt_is_interrupted_and_no_other_is(broker, sublet, art, how):
    name, boxes = art
    killed, others = str(uuid.uuid4()), str(uuid.uuid4())
    cellar = sublet.stream(name, "queue_prompt", prompt(100_000, prompt_id=others), endpoint="cellar")
    with contextlib.closing(cellar):
        next(event for event in cellar if event.WhichOneof("event") == "progress")
        with watching(broker, how, name, "queue_prompt", prompt(100_000, prompt_id=killed), "progress") as watcher:
            behind = boxes["attic"].submit(prompt(3)["workflow"])
            assert boxes["attic"].queue() == ([killed], [behind])
            watcher.kill()
            assert outcome(sublet, name, "attic", killed) == "interrupted"
        assert boxes["attic"].ending(killed) == "interrupted"
        assert outcome(sublet, name, "attic", behind) == "success"
        assert boxes["attic"].queue() == ([], [])
        assert boxes["cellar"].queue() == ([others], [])
    assert outcome(sublet, name, "cellar", others) == "interrupted"


@HOW
def test_a_killed_clients_waiting_prompt_leaves_the_queue_and_no_other_does(broker, sublet, art, how):
    name, boxes = art
    killed = str(uuid.uuid4())
    # Both boxes are busy with what the broker knows nothing of, so it does not matter which is taken.
    running = {box: boxes[box].submit(prompt(100_000)["workflow"]) for box in boxes}
    with watching(broker, how, name, "queue_prompt", prompt(3, prompt_id=killed), "queued") as watcher:
        taken = next(box for box in boxes if killed in boxes[box].queue()[1])
        behind = boxes[taken].submit(prompt(3)["workflow"])
        assert boxes[taken].queue() == ([running[taken]], [killed, behind])
        watcher.kill()
        assert outcome(sublet, name, taken, killed) == "no_such_prompt"
    assert boxes[taken].queue() == ([running[taken]], [behind])
    assert boxes[taken].ending(killed) == ""
