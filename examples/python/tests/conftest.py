"""A real broker and a real PostgreSQL for the whole run, and a fresh pool for each test that wants one."""

import contextlib
import itertools
import os
import pathlib
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sublet_client import Sublet


class Broker:
    """A `sublet serve` of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("w+")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUBLET_")}
        environment |= {"SUBLET_LISTEN": self.address, "SUBLET_DATA_DIR": str(folder / "data")}
        self._process = subprocess.Popen(
            [os.environ["SUBLET_BIN"], "serve"], env=environment, cwd=folder, stdout=self._log, stderr=self._log
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        asked = health_pb2.HealthCheckRequest()
        with grpc.insecure_channel(self.address) as channel:
            answers = health_pb2_grpc.HealthStub(channel).Watch(asked, wait_for_ready=True, timeout=30)
            try:
                next(answer for answer in answers if answer.status == health_pb2.HealthCheckResponse.SERVING)
            except grpc.RpcError:
                self._process.kill()
                self._log.seek(0)
                pytest.exit(f"the broker did not come up:\n{self._log.read()}", returncode=1)

    def stop(self) -> int:
        """Ends the broker as an operator would, and returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=60)
        self._log.close()
        return code


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    assert broker.stop() == 0


@pytest.fixture
def sublet(broker: Broker) -> Iterator[Sublet]:
    with Sublet(broker.address, name="pytest") as client:
        yield client


NAMES = (f"pool-{number}" for number in itertools.count(1))
SCHEMAS = itertools.count(1)


@pytest.fixture
def make_pool(sublet: Sublet) -> Iterator[Callable[..., str]]:
    made: list[str] = []

    def make(**groups: Any) -> str:
        name = next(NAMES)
        kind = {} if {"plugin", "postgres"} & groups.keys() else {"echo": {}}
        sublet.create_pool(name, kind | groups)
        made.append(name)
        return name

    yield make
    for name in made:
        sublet.delete_pool(name, force=True)


@contextlib.contextmanager
def throwaway(program: str) -> Iterator[str]:
    """The address of a server that a script of the project starts."""
    path = pathlib.Path(__file__).parents[3] / "scripts" / program
    # Leaving the block closes its input, which is what ends it.
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        assert port, "the server did not start"
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server whose user `sublet` needs no password."""
    with throwaway("throwaway-postgres") as address:
        yield address


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The address of a server that needs no password."""
    with throwaway("throwaway-redis") as address:
        yield address


@pytest.fixture
def make_db(sublet: Sublet, make_pool: Callable[..., str], postgres: str) -> Callable[..., str]:
    """Makes a pool over a schema of its own."""

    def make(max_sessions: int = 2) -> str:
        schema = f"test_{next(SCHEMAS)}"
        own = {"user": "sublet", "parameters": {"search_path": schema}}
        sizing = {"maxSessions": max_sessions}
        pool = make_pool(postgres=own, endpoints=[{"address": postgres}], sizing=sizing)
        sublet.execute(pool, "execute", {"sql": f"CREATE SCHEMA {schema}"})
        return pool

    return make
