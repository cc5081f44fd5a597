"""Prompts that are cancelled while they run, in two ways; everybody else's go on."""

import contextlib
import uuid

from sublet_client import BackendError, Sublet

from .painting import Events, Painting, follow
from .studio import FEW, MANY, SOME, Studio, fresh

# How often a box is asked to wait for a prompt's end, which takes up to 20 s.
WAITS = 6


def cancel(studio: Studio) -> None:
    """Cancels a prompt by leaving it, and one by its id from another client, while three others go on."""
    left, stopped, other = list(studio.boxes)[:3]
    ids = {box: str(uuid.uuid4()) for box in (left, stopped, other)}
    with contextlib.ExitStack() as streams:
        running = {box: begin(studio, box, ids[box], SOME if box == other else MANY, streams) for box in ids}
        queued = {box: queue_behind(studio, box) for box in (left, stopped)}

        running[left].close()
        gone(studio, left, ids[left], "whose stream was dropped")

        with Sublet(studio.address, name="somebody else") as elsewhere:
            about = {"prompt_id": ids[stopped]}
            said = elsewhere.execute(studio.art, "cancel", about, endpoint=stopped).value
        studio.seen(f"the answer to cancel: {said['state']} before, gone now", said["cancelled"] and said["gone"])
        gone(studio, stopped, ids[stopped], "that another client cancelled")
        told_off(studio, running[stopped])
        on = ids[other] in studio.boxes[other].queue()[0]
        print(f"{other}: its prompt {'runs on' if on else 'has ended meanwhile'}")

        for box, prompt_id in queued.items():
            ended_well(studio, box, prompt_id, "somebody else's, that waited behind it,")
            empty = studio.boxes[box].queue() == ([], [])
            studio.seen(f"{box}: nothing left in the queue", empty)
        last = follow(running[other]).latest
        studio.seen(f"{other}: its stream ends with {last['event']}", last["event"] == "done")
        ended_well(studio, other, ids[other], "the one on another box")


def begin(studio: Studio, box: str, prompt_id: str, steps: int, streams: contextlib.ExitStack) -> Events:
    """Starts a prompt on a box and returns its stream once there is progress. It is dropped with `streams`."""
    params = studio.prompt(steps, prompt_id=prompt_id)
    stream = studio.sublet.stream(studio.art, "queue_prompt", params, endpoint=box)
    streams.callback(stream.close)
    painting = Painting()
    next(event for event in stream if painting.take(event) == "progress")
    print(f"{box}: prompt {prompt_id} is at {painting.progress[-1]:.1%}")
    return stream


def queue_behind(studio: Studio, name: str) -> str:
    """Somebody who knows nothing of the broker queues a short prompt at a box that is busy."""
    box = studio.boxes[name]
    prompt_id = box.submit(fresh(box.workflow(), FEW))
    studio.seen(f"{name}: prompt {prompt_id} of somebody else waits", box.queue()[1] == [prompt_id])
    return prompt_id


def gone(studio: Studio, box: str, prompt_id: str, which: str) -> None:
    """Waits until the box is rid of a prompt, and looks there what became of it."""
    until_ended(studio, box, prompt_id)
    running, pending = studio.boxes[box].queue()
    ending = studio.boxes[box].ending(prompt_id)
    really = prompt_id not in running + pending and ending == "interrupted"
    studio.seen(f"{box}: the prompt {which} is not in its queue, its history says: {ending or 'nothing'}", really)


def told_off(studio: Studio, stream: Events) -> None:
    """Who waits for a prompt that another cancels is told so."""
    try:
        kind = follow(stream).latest["event"]
    except BackendError as error:
        kind = error.metadata["kind"]
    studio.seen(f"its stream says: {kind}", kind == "interrupted")


def ended_well(studio: Studio, box: str, prompt_id: str, which: str) -> None:
    """Waits for a prompt's end, and looks at the box that it was a good one."""
    until_ended(studio, box, prompt_id)
    ending = studio.boxes[box].ending(prompt_id)
    studio.seen(f"{box}: {which} ended with {ending or 'nothing'}", ending == "success")


def until_ended(studio: Studio, box: str, prompt_id: str) -> None:
    """Waits for a prompt's end, whoever queued it."""
    for _ in range(WAITS):
        try:
            answer = studio.sublet.execute(studio.art, "wait", {"prompt_id": prompt_id}, endpoint=box).value
        except BackendError:
            # It did not end well, or the box does not know it: the box itself says which.
            return
        if "status" in answer:
            return
    raise TimeoutError(f"{box}: prompt {prompt_id} has not ended")
