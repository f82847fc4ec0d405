import pytest

from proxy.simulator.report import BLOCK, report_blocks


@pytest.mark.parametrize("size", [0, 1, 63, 64, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17])
def test_a_report_has_its_size_to_the_byte(size: int) -> None:
    """Any size comes out exact, in blocks of 64 KiB."""
    blocks = list(report_blocks(size))

    assert sum(map(len, blocks)) == size
    assert all(len(block) == BLOCK for block in blocks[:-1])


def test_no_two_blocks_are_alike() -> None:
    """A block lost, doubled or moved by a proxy changes the bytes."""
    blocks = list(report_blocks(10 * BLOCK))

    assert len(set(blocks)) == 10
    assert b"".join(blocks).count(b"\n") == 10 * 1024
