"""The examples of the http page, over HTTP/2."""

import contextlib
import io
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs/backends/http.md"


def test_the_pages_examples_do_what_they_say_over_http2(sublet):
    service = [sys.executable, ROOT / "examples/http2_service.py", "0"]
    with subprocess.Popen(service, stdout=subprocess.PIPE, text=True) as running:
        address = running.stdout.readline().split()[-1]
        own = {"http": {"protocol": "PROTOCOL_HTTP2"}, "endpoints": [{"address": address}]}
        sublet.create_pool("api2", own | {"sizing": {"maxSessions": 100}})
        try:
            blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
            assert len(blocks) == 2
            for block in blocks:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(block, str(PAGE), "exec"), {"sublet": sublet})  # noqa: S102
                told = re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE)
                assert printed.getvalue().splitlines() == told, block
            # Many at once are streams of that same connection.
            with contextlib.ExitStack() as opened:
                sessions = [opened.enter_context(sublet.open_session("api2")) for _ in range(20)]
                futures = [session.submit("request", {"path": f"/{n}"}) for n, session in enumerate(sessions)]
                answers = [future.result().value for future in futures]
            assert [answer["path"] for answer in answers] == [f"/{n}" for n in range(20)]
            assert {(answer["version"], answer["connection"]) for answer in answers} == {("2", 1)}
        finally:
            sublet.delete_pool("api2", force=True)
            running.kill()
