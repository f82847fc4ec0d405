import base64

from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.secret_text import doubtful, not_a_secret


@given(st.binary(min_size=24, max_size=64))
def test_random_secrets_are_beyond_doubt(data: bytes) -> None:
    """However they are written: by chance alone they do not read as text (once in 10^10 for 24 bytes)."""
    if all(byte < 0x20 or byte > 0x7E for byte in data[:3]):
        for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(), data.hex()):
            assert (not_a_secret(text), doubtful(text)) == (None, None)


@given(st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=12))
def test_base64_of_a_text_is_doubted_and_never_quoted(secret: str) -> None:
    """With and without the line break that `echo` adds."""
    for text in (secret, f"{secret}\n"):
        encoded = base64.b64encode(text.encode()).decode()
        found = doubtful(encoded)
        assert found is not None
        assert encoded not in " ".join(found)
        assert secret not in " ".join(found)
