"""The examples of the comfyui page, over six boxes."""

import contextlib
import io
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from sublet_client import Sublet

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs/backends/comfyui.md"


@pytest.fixture
def boxes(sublet: Sublet) -> Iterator[list[str]]:
    """The pool of the page, over six of the page's boxes."""
    service = [sys.executable, ROOT / "examples/comfyui_service.py", *["0"] * 6]
    with subprocess.Popen(service, stdout=subprocess.PIPE, text=True) as running:
        addresses = [running.stdout.readline().split()[-1] for _ in range(6)]
        endpoints = [
            {"name": f"box-{number}", "address": address, "maxSessions": 1}
            for number, address in enumerate(addresses)
        ]
        sublet.create_pool("art", {"comfyui": {}, "endpoints": endpoints})
        try:
            yield [endpoint["name"] for endpoint in endpoints]
        finally:
            sublet.delete_pool("art", force=True)
            running.kill()


def test_the_pages_examples_do_what_they_say(sublet, boxes):
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example, str(PAGE), "exec"), {"sublet": sublet})  # noqa: S102
        told = re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)
        assert printed.getvalue().splitlines() == told, example


def test_six_boxes_work_at_the_same_time(sublet, boxes):
    workflow = {
        "1": {"class_type": "KSampler", "inputs": {"steps": 100000}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    streams, at = [], []
    for _ in boxes:
        stream = sublet.stream("art", "queue_prompt", {"workflow": workflow})
        streams.append(stream)
        at.append(next(event.accepted.endpoint for event in stream if event.WhichOneof("event") == "accepted"))
    assert sorted(at) == boxes
    for stream in streams:
        stream.close()
    # All of them are cancelled: each box takes another prompt.
    quick = {"workflow": {"1": {"class_type": "PreviewImage", "inputs": {}}}}
    done = [
        threading.Thread(target=sublet.execute, args=("art", "queue_prompt", quick), kwargs={"endpoint": box})
        for box in boxes
    ]
    for thread in done:
        thread.start()
    for thread in done:
        thread.join()
    for box in boxes:
        queue = sublet.execute("art", "queue", endpoint=box).value
        assert queue == {"endpoint": box, "running": [], "pending": []}
