"""The program that shows both kinds, as a user runs it."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest
from studio import services
from sublet.v1 import pool_service_pb2
from sublet_client import Sublet

FOLDER = pathlib.Path(__file__).parents[1]


def studio(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "studio", *map(str, arguments)]
    return subprocess.run(command, cwd=FOLDER, env=os.environ, capture_output=True, text=True, check=False)


def test_one_command_shows_all_of_it_and_leaves_nothing_behind(broker, sublet, tmp_path):
    done = studio("--broker", broker.address, "--with-services", "--folder", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for line in [
        r"seen: 6 boxes in one pool, with a slot each: box-1, .*, box-6",
        r"seen: an answer in 14 parts, printed as they came",
        r"seen: its usage: completion_tokens 14, prompt_tokens 14, total_tokens 28",
        r"seen: its first token after \d+ ms; why it ended: stop",
        r"seen: progress, \d+ times",
        r"seen: a preview, saved: .*preview.png",
        r"seen: the result, saved: .*studio_00001_.png",
        r"seen: 18 prompts on 6 boxes, each with some",
        r"seen: leases of a box at the same time, by their times: 1 at most",
        r"seen: leases of a box at the same time, by 18 lists of the broker's: 1 at most, 6 in all",
        r"seen: prompts at a box at the same time, by the boxes' histories: 1 at most",
        r"seen: prompts at a box at the same time, by the boxes' count: 1 at most",
        r"seen: box-1: the prompt whose stream was dropped is not in its queue, its history says: interrupted",
        r"seen: box-2: the prompt that another client cancelled is not in its queue, its history says: interrupted",
        r"seen: box-1: somebody else's, that waited behind it, ended with success",
        r"seen: box-2: somebody else's, that waited behind it, ended with success",
        r"seen: box-3: the one on another box ended with success",
        r"all of it was seen",
    ]:
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), f"{line}\n{done.stdout}"
    numbers = re.findall(r"^box-\d ran prompts (.*)$", done.stdout, re.MULTILINE)
    assert sorted(int(number) for line in numbers for number in line.split(", ")) == list(range(1, 19))
    for name in ("preview.png", "studio_00001_.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert_nothing_is_left(sublet, done.stdout)


def test_a_signal_ends_it_and_leaves_nothing_behind(broker, sublet, tmp_path):
    command = [sys.executable, "-m", "studio", "--broker", broker.address, "--with-services", "--folder", tmp_path]
    with subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        # The first calls of this step are just being made.
        told = "".join(iter(running.stdout.readline, "-- prompts cancelled\n"))
        running.terminate()
        _, errors = running.communicate()
    assert (running.returncode, errors) == (128 + signal.SIGTERM, "")
    assert_nothing_is_left(sublet, told)


def assert_nothing_is_left(sublet: Sublet, told: str) -> None:
    """The pools are deleted, and the boxes have ended."""
    pools = sublet.pools.ListPools(pool_service_pb2.ListPoolsRequest()).pools
    assert not [pool.name for pool in pools if pool.name.startswith("studio")]
    addresses = re.findall(r"^box-\d is at http://(.*):(\d+)$", told, re.MULTILINE)
    assert len(addresses) == 6
    for host, port in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


def test_boxes_that_take_two_prompts_at_once_are_found_out(broker, sublet, tmp_path):
    with services.running(3) as (models, boxes):
        endpoints = [{"address": address, "maxSessions": 2} for address in boxes]
        sublet.create_pool("wide", {"comfyui": {}, "endpoints": endpoints})
        try:
            done = studio(
                *("--broker", broker.address, "--folder", tmp_path, "--art-pool", "wide"),
                *("--llm-pool", "narrow", "--models", models, "--boxes", *boxes),
            )
        finally:
            sublet.delete_pool("wide", force=True)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert "took pool wide, which was there" in done.stdout
    assert f"NOT SEEN: 3 boxes in one pool, with a slot each: {', '.join(boxes)}" in done.stdout
    assert re.search(r"^NOT SEEN: \d+ of these$", done.stdout, re.MULTILINE)
    # The rest was tried all the same.
    assert "seen: an answer in 14 parts, printed as they came" in done.stdout


def test_a_broker_that_is_not_there_is_said_to_be_so(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = studio("--broker", f"127.0.0.1:{taken.getsockname()[1]}", "--with-services", "--folder", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "NOT SEEN: a broker with two pools" in done.stdout
