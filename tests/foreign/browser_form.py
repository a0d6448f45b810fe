"""How a message looks in a browser, written anew from the documented rules and not from the edge's code."""

import base64
import json

# Deeper JSON is not passed on as JSON.
NESTING_MAX = 128


def event(frames: list[bytes], topic: bytes | None = None) -> dict:
    """The `event` object of `trestle.v1.json` without position and time; `topic` where an alias gives one."""
    if topic is None and len(frames) > 1:
        topic, *frames = frames
    form = {} if topic is None else _topic(topic)
    return form | (_body(frames[0]) if len(frames) == 1 else {"parts": [_body(frame) for frame in frames]})


def page(frames: list[bytes]) -> str | bytes:
    """The message of `rust-websocket`: the last frame, text if UTF-8, else binary."""
    try:
        return frames[-1].decode()
    except UnicodeDecodeError:
        return frames[-1]


def _topic(topic: bytes) -> dict:
    try:
        return {"topic": topic.decode()}
    except UnicodeDecodeError:
        return {"topic_base64": base64.b64encode(topic).decode()}


def _body(body: bytes) -> dict:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
    if text.lstrip(" \t\r\n").startswith(("{", "[")) and _is_json(text):
        return {"data": json.loads(text)}
    if any(ord(char) < 0x20 and char not in "\t\r\n" for char in text):
        return {"base64": base64.b64encode(body).decode()}
    return {"text": text}


def _is_json(text: str) -> bool:
    depth = deepest = 0
    try:
        json.loads(text)
    except ValueError:
        return False
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest <= NESTING_MAX
