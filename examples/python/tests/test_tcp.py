"""The examples of the tcp page."""

import contextlib
import io
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs/backends/tcp.md"


def test_the_pages_examples_do_what_they_say(sublet):
    service = [sys.executable, ROOT / "examples/line_service.py", "0"]
    with subprocess.Popen(service, stdout=subprocess.PIPE, text=True) as running:
        address = running.stdout.readline().split()[-1]
        lines = {"delimiter": {"text": "\r\n"}}
        ready = {"expect": {"exactly": {"text": "READY\r\n"}}}
        reset = {"send": {"text": "RESET\r\n"}, "expect": {"exactly": {"text": "RESET DONE\r\n"}}}
        own = {"framing": lines, "greeting": [ready], "reset": {"exchange": reset}}
        sublet.create_pool("device", {"tcp": own, "endpoints": [{"address": address}], "sizing": {"maxSessions": 1}})
        try:
            blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
            assert len(blocks) == 2
            for block in blocks:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(block, str(PAGE), "exec"), {"sublet": sublet})  # noqa: S102
                told = re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE)
                assert printed.getvalue().splitlines() == told, block
        finally:
            sublet.delete_pool("device", force=True)
            running.kill()
