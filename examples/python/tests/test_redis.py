"""redis pools: the examples that people copy."""

import contextlib
import io
import pathlib
import re

import pytest
from sublet_client import BackendError

PAGE = pathlib.Path(__file__).parents[3] / "docs/backends/redis.md"


def test_the_page_s_blocks_print_what_is_written_behind_them(sublet, redis):
    sublet.create_pool("cache", {"redis": {}, "endpoints": [{"address": redis}], "sizing": {"maxSessions": 2}})
    run_on = {"sublet": sublet}
    try:
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        assert len(blocks) == 3
        for block in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block, str(PAGE), "exec"), run_on)  # noqa: S102
            assert printed.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE), block
        with sublet.lease("cache") as lease:
            lease.execute("command", {"args": ["WATCH", "seats"]})
            sublet.execute("cache", "command", {"args": ["SET", "seats", 0]})
            with pytest.raises(BackendError) as changed:
                lease.execute("pipeline", {"atomic": True, "commands": [["SET", "seats", 5]]})
            assert (changed.value.metadata["redis_code"], changed.value.executed) == ("WATCH", "no")
    finally:
        sublet.delete_pool("cache", force=True)
