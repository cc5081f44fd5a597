"""The examples of the llm page, and servers that others have made to stand in for providers."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import free_port
from llmock.scenarios import Fail, Reply, SlowFirstToken, StreamFault, ToolCall
from llmock.testing import LLMockServer
from sublet_client import BackendError, ExecuteTimeout, Sublet

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs/backends/llm.md"
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 50}
DIALECTS = {"openai": "DIALECT_OPENAI", "anthropic": "DIALECT_ANTHROPIC"}


@pytest.fixture
def parrot(sublet: Sublet) -> Iterator[None]:
    """The pool of the page, over the service of the page."""
    service = [sys.executable, ROOT / "examples/llm_service.py", "0"]
    with subprocess.Popen(service, stdout=subprocess.PIPE, text=True) as running:
        address = running.stdout.readline().split()[-1]
        own = {"defaults": {"model": "fast"}, "model_aliases": {"fast": "parrot"}}
        sublet.create_pool("llm", {"llm": own, "endpoints": [{"address": address}]})
        try:
            yield
        finally:
            sublet.delete_pool("llm", force=True)
            running.kill()


def test_the_pages_examples_do_what_they_say(sublet, parrot):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(PAGE), "exec"), {"sublet": sublet})  # noqa: S102
        told = "\n".join(re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE)).replace("\\n", "\n")
        assert [line.strip() for line in printed.getvalue().splitlines()] == [
            line.strip() for line in told.splitlines()
        ], block


@pytest.fixture(scope="module")
def llmock_server() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture(params=sorted(DIALECTS))
def mock(request, llmock_server, sublet) -> Iterator[tuple[str, Callable]]:
    """A pool over LLMock, for each dialect that both know, and what tells LLMock how to behave."""
    llmock_server.state.scenarios.clear()
    pool = f"llmock-{request.param}"
    own = {"dialect": DIALECTS[request.param], "idle_timeout": "0.2s", "first_token_timeout": "0.5s"}
    endpoint = {"address": llmock_server.base_url(request.param)}
    sublet.create_pool(pool, {"llm": own, "endpoints": [endpoint], "sizing": {"maxSessions": 1}})
    try:
        yield pool, llmock_server.state.scenarios.add
    finally:
        sublet.delete_pool(pool, force=True)


def streamed(sublet: Sublet, pool: str, params: dict = HELLO) -> tuple[str, list[str], dict, bool]:
    """Text, parts that are more than text, attributes, and whether usage was told."""
    text, parts, usage = "", [], False
    for event in sublet.stream(pool, "chat", params):
        match event.WhichOneof("event"):
            case "text":
                text += event.text
            case "json_text":
                parts.append(event.json_text)
            case "usage":
                usage = True
            case "end":
                return text, parts, dict(event.end.attributes), usage
    raise AssertionError("there was no end")


def test_llmocks_answers_are_read(sublet, mock):
    pool, behave = mock
    behave(Reply(text="Hi, how are you?"))
    text, parts, attributes, usage = streamed(sublet, pool)
    assert (text, parts, usage) == ("Hi, how are you?", [], True)
    assert attributes["finish_reason"] in ("stop", "end_turn")
    behave(Reply(text="Fine."))
    assert "Fine." in str(sublet.execute(pool, "chat", HELLO).value)
    behave(Reply(tool_calls=(ToolCall("weather", {"city": "Paris"}),)))
    _, parts, attributes, _ = streamed(sublet, pool)
    assert parts and "weather" in "".join(parts)
    assert attributes["finish_reason"] in ("tool_calls", "tool_use")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid"),
        (401, "auth"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "upstream_5xx"),
        (503, "overloaded"),
        (529, "overloaded"),
    ],
)
def test_llmocks_refusals_are_told_by_kind(sublet, mock, status, kind):
    pool, behave = mock
    behave(Fail(status, retry_after=3) if status == 429 else Fail(status))
    with pytest.raises(BackendError) as refused:
        sublet.execute(pool, "chat", HELLO)
    assert (refused.value.metadata["kind"], refused.value.metadata["provider_status"]) == (kind, str(status))
    if status == 429:
        assert refused.value.retry_after == 3


@pytest.mark.parametrize(("fault", "kind"), [("disconnect", "truncated"), ("truncate", "truncated"), ("malformed", "malformed")])
def test_llmocks_broken_streams_are_never_taken_for_whole(sublet, mock, fault, kind):
    pool, behave = mock
    behave(Reply(text="one two three four five six"))
    behave(StreamFault(fault, after_chunks=4))
    with pytest.raises(BackendError) as lost:
        streamed(sublet, pool)
    assert lost.value.metadata["kind"] == kind
    behave(Reply(text="again"))
    assert streamed(sublet, pool)[0] == "again"


def test_llmocks_stalls_meet_the_deadlines(sublet, mock):
    pool, behave = mock
    behave(Reply(text="one two three four"))
    behave(StreamFault("stall", after_chunks=4, stall_seconds=30))
    with pytest.raises(ExecuteTimeout) as late:
        streamed(sublet, pool)
    assert "idle" in str(late.value) or "first token" in str(late.value)
    behave(SlowFirstToken(30))
    with pytest.raises(ExecuteTimeout) as late:
        streamed(sublet, pool)
    assert "first token" in str(late.value)


@pytest.fixture(scope="module")
def fakellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fakellm that will be up soon: the broker waits for it."""
    port = free_port()
    folder = tmp_path_factory.mktemp("fakellm")
    command = [sys.executable, "-m", "uvicorn", "fakellm.server:app", "--port", str(port), "--log-level", "error"]
    with subprocess.Popen(command, cwd=folder, env=os.environ) as process:
        yield f"127.0.0.1:{port}"
        process.kill()


@pytest.mark.parametrize("dialect", sorted(DIALECTS.values()))
def test_fakellms_answers_are_read(sublet, fakellm, dialect):
    pool = "fakellm-" + dialect.rsplit("_", 1)[1].lower()
    sublet.create_pool(pool, {"llm": {"dialect": dialect}, "endpoints": [{"address": fakellm}]})
    try:
        text, parts, attributes, _ = streamed(sublet, pool)
        assert text and not parts
        assert attributes["finish_reason"] in ("stop", "end_turn")
        # Its words are of the request, whose `stream` differs.
        assert text.split(", fingerprint")[0] in str(sublet.execute(pool, "chat", HELLO).value)
    finally:
        sublet.delete_pool(pool, force=True)
