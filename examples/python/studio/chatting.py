"""A chat whose answer is printed as it comes."""

from collections.abc import Mapping

from google.protobuf import json_format
from sublet_client import retry_unexecuted

from .studio import Studio

QUESTION = "Say what you see: six boxes, one queue, and nobody who waits for long."


def chat(studio: Studio) -> None:
    """Asks a model; again if the provider is sure that it has not begun."""
    messages = [{"role": "user", "content": QUESTION}]
    parts, usage, facts = retry_unexecuted(lambda: answer(studio, {"messages": messages}))
    studio.seen(f"an answer in {parts} parts, printed as they came", parts > 1)
    cost = ", ".join(f"{name} {value:g}" for name, value in sorted(usage.items()) if isinstance(value, float))
    studio.seen(f"its usage: {cost}", bool(cost))
    first = facts.get("time_to_first_token_ms")
    studio.seen(f"its first token after {first} ms; why it ended: {facts.get('finish_reason')}", first is not None)


def answer(studio: Studio, params: Mapping[str, object]) -> tuple[int, dict, Mapping[str, str]]:
    """Prints an answer; returns the number of its parts, its usage, and what else there is to know."""
    parts, usage = 0, {}
    for event in studio.sublet.stream(studio.llm, "chat", params):
        match event.WhichOneof("event"):
            case "text":
                print(event.text, end="", flush=True)
                parts += 1
            case "usage":
                usage = json_format.MessageToDict(event.usage)
            case "end":
                print()
                return parts, usage, event.end.attributes
    raise RuntimeError("a stream has an end, or it raises")
