"""More prompts than boxes at once: whoever comes gets a box, and no box ever has two of them."""

import concurrent.futures
import dataclasses
import itertools
import threading
import time
from collections.abc import Iterable

from .painting import follow
from .studio import FEW, Studio

ROUNDS = 3
# For a box to come free, and for all boxes to be taken; in seconds.
PATIENCE = 120


@dataclasses.dataclass(frozen=True)
class Stay:
    """A lease of a box, and the prompt that ran on it. The times are within the lease, by this program's clock."""

    number: int
    box: str
    prompt_id: str
    begin: float
    end: float
    leased: list[str]
    """The boxes of all leases that there were meanwhile, by the broker's own list."""


def share(studio: Studio) -> None:
    """Starts three prompts for each box, all at once, and looks at who was where and when."""
    count = ROUNDS * len(studio.boxes)
    for box in studio.boxes.values():
        box.most_at_once()
    # All boxes are taken before any goes on, so that a second lease of one would have its chance.
    taken = threading.Barrier(len(studio.boxes))
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        stays = list(threads.map(lambda number: attend(studio, taken, number), range(1, count + 1)))
    used = {name: [stay for stay in stays if stay.box == name] for name in studio.boxes}
    for name, here in used.items():
        print(f"{name} ran prompts {', '.join(str(stay.number) for stay in sorted(here, key=lambda stay: stay.begin))}")
    studio.seen(f"{count} prompts on {len(used)} boxes, each with some", all(used.values()))
    look_at_leases(studio, stays, used)
    look_at_boxes(studio, used)


def attend(studio: Studio, taken: threading.Barrier, number: int) -> Stay:
    """Runs a prompt; if it fails, the others do not wait for it."""
    try:
        return stay(studio, taken, number)
    except BaseException:
        taken.abort()
        raise


def stay(studio: Studio, taken: threading.Barrier, number: int) -> Stay:
    """Takes a box and runs a prompt there."""
    with studio.sublet.lease(studio.art, wait=PATIENCE) as lease:
        begin = time.monotonic()
        wait_for_others(taken)
        leased = [entry.lease.endpoint for entry in studio.sublet.leases(studio.art)]
        painting = follow(lease.stream("queue_prompt", studio.prompt(FEW)))
        return Stay(number, lease.endpoint, painting.prompt_id, begin, time.monotonic(), leased)


def wait_for_others(taken: threading.Barrier) -> None:
    try:
        taken.wait(PATIENCE)
    except threading.BrokenBarrierError:
        raise TimeoutError("the boxes were never all leased at once") from None


def look_at_leases(studio: Studio, stays: list[Stay], used: dict[str, list[Stay]]) -> None:
    """The leases' times, and the lists of leases that the broker gave while each was held."""
    most = max(most_at_once((stay.begin, stay.end) for stay in here) for here in used.values() if here)
    studio.seen(f"leases of a box at the same time, by their times: {most} at most", most == 1)
    most = max(stay.leased.count(box) for stay in stays for box in stay.leased)
    wide = max(len(stay.leased) for stay in stays)
    told = f"leases of a box at the same time, by {len(stays)} lists of the broker's: {most} at most, {wide} in all"
    studio.seen(told, most == 1 and wide == len(used))


def look_at_boxes(studio: Studio, used: dict[str, list[Stay]]) -> None:
    """What the boxes themselves say: when each prompt came and ended, and, if they count, how many there were."""
    most = max(
        most_at_once(studio.boxes[name].stay(stay.prompt_id) for stay in here) for name, here in used.items() if here
    )
    studio.seen(f"prompts at a box at the same time, by the boxes' histories: {most} at most", most == 1)
    counts = [count for box in studio.boxes.values() if (count := box.most_at_once()) is not None]
    if counts:
        studio.seen(f"prompts at a box at the same time, by the boxes' count: {max(counts)} at most", max(counts) == 1)


def most_at_once(stays: Iterable[tuple[float, float]]) -> int:
    """The most intervals that have a moment in common; one may begin as another ends."""
    changes = sorted(change for begin, end in stays for change in ((begin, 1), (end, -1)))
    return max(itertools.accumulate(change for _, change in changes))
