"""plugin pools: the worked driver in Python, and the example that people copy."""

import os
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from sublet_client import BackendError

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs/backends/plugin.md"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a driver that is up, or will be soon: the broker waits for it."""
    address = f"unix:{tmp_path_factory.mktemp('driver') / 'press.sock'}"
    with subprocess.Popen([sys.executable, ROOT / "examples/plugins/python/press.py", address]) as process:
        yield address
        process.kill()


@pytest.fixture
def press(make_pool, driver) -> str:
    return make_pool(plugin={"address": driver, "config": {"tray": 2}}, endpoints=[{"address": "usb:3"}])


def test_the_page_s_python_prints_what_is_written_behind_it(broker, press, capsys):
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    example = example.replace("127.0.0.1:50051", broker.address).replace('"press"', f'"{press}"')
    exec(compile(example, str(PAGE), "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)


def test_what_the_driver_refuses_was_not_executed_and_costs_no_session(sublet, press):
    for params in ({}, {"text": 7}):
        with pytest.raises(BackendError) as refused:
            sublet.execute(press, "print", params)
        assert (refused.value.code, refused.value.executed) == ("INVALID_ARGUMENT", "no")
    assert sublet.execute(press, "print", {"text": "hello"}).value == {"printed": 5}


def test_the_driver_passes_the_kit(sublet, press, driver):
    assert sublet.execute(press, "print", {"text": "hello"}).value == {"printed": 5}
    program = [os.environ["SUBLET_BIN"], "plugin", "test", "--address", driver]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 failed, 0 skipped" in done.stdout


class Overtaken(dict):
    """Sessions that a Disconnect finds as soon as they are there, and ends before anything else if it can."""

    def __setitem__(self, name, session):
        super().__setitem__(name, session)
        self.ending = threading.Thread(target=self.disconnect, args=(SimpleNamespace(session_id=name), None))
        self.ending.start()
        if not session.busy.locked():
            self.ending.join()


def test_a_connect_that_its_disconnect_overtakes_leaves_no_device_open(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples/plugins/python")
    from driver import Driver

    opened = []

    class Device:
        def __init__(self, request):
            opened.append(self)

        def close(self):
            opened.remove(self)

    driver = Driver({}, Device)
    driver.sessions = Overtaken()
    driver.sessions.disconnect = driver.Disconnect
    driver.Connect(SimpleNamespace(session_id="one"), SimpleNamespace(is_active=lambda: False))
    driver.sessions.ending.join()
    assert (opened, driver.sessions) == ([], {})
