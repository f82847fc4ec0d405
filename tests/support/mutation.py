"""Damage done to messages, the same for the same seed."""

from collections.abc import Sequence
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again

TOKENS = (
    b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"0", b"5", b"-1", b"+5", b"0x5", b"ff",
    b"\x0b", b"\x7f", b"\xff", b"\xc3\xa9", b"chunked", b"identity", b"close", b"keep-alive", b"HTTP/1.0", b"HTTP/1.1",
    b"\r\nContent-Length: 5", b"\r\nContent-Length: 0", b"\r\nTransfer-Encoding: chunked", b"\r\nX: y", b"\r\n y",
    b"\r\nConnection: close", b"0\r\n\r\n", b"5\r\nhello\r\n", b"5;x=y\r\nhello\r\n", b"0\r\nX: y\r\n\r\n", b"9" * 20,
    b"a" * 300,
)  # fmt: skip


def mutated(data: bytes, random: Random, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Return *data* with one to four things put in, taken out, doubled, replaced, or moved."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        data = _mutated(data, random, tokens)
    return data


def _mutated(data: bytes, random: Random, tokens: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((1, 1, 2, 4, 16, 64)))
    match random.randrange(7):
        case 0:
            end, new = start, random.choice(tokens)
        case 1:
            new = random.choice(tokens)
        case 2:
            new = b""
        case 3:
            new = data[start:end] * 2
        case 4:
            new = bytes([random.randrange(256)])
        case 5:
            new, start = data[start:end], random.randint(0, len(data))
            end = start
        case _:
            return _with_lines_moved(data, random, tokens)
    return data[:start] + new + data[end:]


def _with_lines_moved(data: bytes, random: Random, tokens: Sequence[bytes]) -> bytes:
    """Return *data* with a line doubled, dropped, put elsewhere, or its end or value exchanged."""
    lines = data.split(b"\r\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            lines.insert(other, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at].partition(b": ")[0] + b": " + random.choice(tokens)
        case _:
            return data.replace(b"\r\n", b"\n", at + 1)
    return b"\r\n".join(lines)


def cut(data: bytes, random: Random) -> list[bytes]:
    """Return *data* in one to four pieces, none empty."""
    at = sorted({random.randint(0, len(data)) for _ in range(random.choice((0, 0, 1, 3)))} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]
