"""A call's input in parts: within the credit that the broker gives, beside other calls, and through failures."""

import itertools
import threading

import pytest
from sublet_client import SessionLost, SubletError

WINDOW = 256 * 1024


def pattern(length: int) -> bytes:
    return bytes(itertools.islice(itertools.cycle(range(251)), length))


class Parts:
    """Parts of a body, which know how many of them were asked for."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = iter(parts)
        self.asked = 0

    def __iter__(self) -> "Parts":
        return self

    def __next__(self) -> bytes:
        self.asked += 1
        return next(self._parts)


def test_input_larger_than_its_credit_reaches_the_backend_whole(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        whole = pattern(11 * WINDOW + 13)
        parts = [whole[at : at + 70_001] for at in range(0, len(whole), 70_001)]
        before = session.execute("count").value["bytes"]
        assert session.execute("echo", input=parts).value == whole
        # Each call counts as one byte of its own, the two here as well.
        assert session.execute("count").value["bytes"] == before + len(whole) + 2


def test_one_part_may_be_larger_than_the_credit_and_parts_may_be_empty(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        whole = pattern(3 * WINDOW)
        assert session.execute("echo", input=whole).value == whole
        assert session.execute("echo", body=b"a", input=[b"", bytearray(b"b"), b"", memoryview(b"c")]).value == b"abc"
        assert session.execute("echo", input=[]).value in (None, b"")


def test_calls_before_and_behind_an_input_run_in_order(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        let_go = threading.Event()

        def slow():
            yield b"first "
            assert let_go.wait(30)
            yield b"last"

        before = session.submit("echo", {"n": 1})
        held_up = session.submit("echo", input=slow())
        # Its input must wait until it runs: the broker refuses what comes before.
        behind = session.submit("echo", input=[pattern(2 * WINDOW)])
        after = session.submit("echo", {"n": 2})
        assert before.result(30).value == {"n": 1}
        assert not (held_up.done() or behind.done() or after.done())
        let_go.set()
        assert held_up.result(30).value == b"first last"
        assert behind.result(30).value == pattern(2 * WINDOW)
        assert after.result(30).value == {"n": 2}


def test_a_call_that_fails_in_the_middle_of_its_input_asks_for_no_more_of_it(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        parts = Parts(*[bytes(64 * 1024)] * 4096)
        with pytest.raises(SubletError) as failed:
            session.execute("echo", input=parts)
        assert failed.value.reason == "RESPONSE_TOO_LARGE"
        assert 1 < parts.asked < 200, "4 MiB and a window are 68 parts"
        assert session.execute("echo", {"still": "here"}).value == {"still": "here"}


def test_a_call_that_takes_no_input_fails_and_leaves_the_others_alone(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        with pytest.raises(SubletError) as refused:
            session.execute("get", input=[b"unwanted"])
        assert (refused.value.reason, refused.value.executed) == ("INVALID_ARGUMENT", "no")
        assert session.execute("echo", {"still": "here"}).value == {"still": "here"}


def test_input_that_raises_cancels_its_call_and_no_other(sublet, make_pool):
    class Broken(Exception):
        pass

    def broken():
        yield b"some"
        raise Broken

    with sublet.open_session(make_pool()) as session:
        failed = session.submit("echo", input=broken())
        behind = session.submit("echo", {"still": "here"})
        with pytest.raises(Broken) as raised:
            failed.result(30)
        assert isinstance(raised.value.__cause__, SubletError)
        assert behind.result(30).value == {"still": "here"}


def test_input_behind_a_lost_session_is_never_asked_for(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        parts = Parts(b"never")
        dropped = session.submit("drop", {"when": "after"})
        behind = session.submit("echo", input=parts)
        with pytest.raises(SessionLost):
            dropped.result(30)
        with pytest.raises(SessionLost) as unrun:
            behind.result(30)
        assert (unrun.value.executed, parts.asked) == ("no", 0)


def test_closing_waits_for_input_that_is_on_its_way(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        sent = session.submit("echo", input=(pattern(1000) for _ in range(1000)))
    assert sent.result(0).value == pattern(1000) * 1000
