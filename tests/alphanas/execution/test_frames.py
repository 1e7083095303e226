"""Laws of messages over a pipe."""

from __future__ import annotations

import os
import threading

import pytest

from alphanas.execution import frames

MESSAGES: list[dict[str, object]] = [{}, {"a": 1}, {"ä": [None, 1.5, "b" * 20_000]}, {"last": True}]


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
def test_messages_come_out_as_they_went_in_however_they_are_cut(step: int) -> None:
    stream = b"".join(map(frames.encode, MESSAGES))
    buffer, found = bytearray(), []
    for start in range(0, len(stream), step):
        buffer += stream[start : start + step]
        while (message := frames.decode(buffer)) is not None:
            found.append(message)
    assert found == MESSAGES
    assert not buffer


def test_reading_stops_at_the_end_of_a_message_and_at_the_end_of_the_pipe() -> None:
    ours, theirs = os.pipe()
    sender = threading.Thread(target=lambda: [frames.write(theirs, frames.encode(message)) for message in MESSAGES])
    sender.start()
    assert [frames.read(ours) for _ in MESSAGES] == MESSAGES
    sender.join()
    frames.write(theirs, frames.encode({"cut": 1})[:-1])
    os.close(theirs)
    assert frames.read(ours) is None
    os.close(ours)


def test_what_is_not_json_is_refused_by_the_sender() -> None:
    with pytest.raises(TypeError):
        frames.encode({"a": object()})
