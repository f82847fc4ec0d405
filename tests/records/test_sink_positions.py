from pathlib import Path

import pytest

from proxy.records.sink_positions import SinkPositions
from proxy.records.stream import Position, Progress, Stream


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """Return a stream with two records."""
    stream = Stream(tmp_path)
    stream.open()
    stream.append([b'{"kind":"exchange"}', b'{"kind":"exchange"}'], Progress())
    stream.close()
    return stream


def test_positions_come_back(tmp_path: Path, stream: Stream) -> None:
    """A sink goes on where it was; one that is new begins with what comes."""
    SinkPositions(tmp_path, targets={}).save({"file": Position(1, 3, 1)})

    assert SinkPositions(tmp_path, targets={}).load(["file", "stdout"], stream) == {
        "file": Position(1, 3, 1),
        "stdout": stream.end,
    }


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"file": "x"}', b'{"file": [1]}'])
def test_without_a_readable_file_everything_comes_again(tmp_path: Path, stream: Stream, content: bytes | None) -> None:
    """Twice is better than never."""
    if content is not None:
        (tmp_path / "positions.json").write_bytes(content)

    assert SinkPositions(tmp_path, targets={}).load(["file"], stream) == {"file": stream.first()}


def test_a_position_behind_the_end_is_the_end(tmp_path: Path, stream: Stream) -> None:
    """The stream lost its last bytes with the machine; what takes their place must not be skipped."""
    SinkPositions(tmp_path, targets={}).save({"file": Position(1, 10**6, 99)})

    assert SinkPositions(tmp_path, targets={}).load(["file"], stream) == {"file": stream.end}
