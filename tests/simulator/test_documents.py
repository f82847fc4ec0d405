import pytest

from proxy.simulator.documents import UploadRefused, document_of, parts_of

TYPE = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n\x00\r\n--\xff\r\n'
DATA = (
    b'--b\r\nContent-Disposition: form-data; name="documentData"\r\nContent-Type: application/json\r\n\r\n{"a":1}\r\n'
)
END = b"--b--\r\n"


@pytest.mark.parametrize("content_type", [TYPE, 'Multipart/Form-Data; charset=x; Boundary="b"'])
def test_an_upload_is_taken_apart(content_type: str) -> None:
    """The file's bytes come out as they went in, line ends and dashes included."""
    document = document_of(content_type, FILE + DATA + END)

    assert (document.filename, document.content) == ("a.pdf", b"\x00\r\n--\xff")


def test_a_preamble_is_ignored() -> None:
    """What stands before the first boundary is no part (RFC 2046 5.1.1)."""
    assert set(parts_of(TYPE, b"hello\r\n" + FILE + DATA + END)) == {"file", "documentData"}


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("multipart/form-data", FILE + DATA + END, "boundary"),
        ("text/plain; boundary=b", FILE + DATA + END, "boundary"),
        (TYPE, FILE + DATA, "closing"),
        (TYPE, b"", "closing"),
        (TYPE, END, "closing"),
        (TYPE, FILE + END, "must be"),
        (TYPE, FILE + FILE + DATA + END, "twice"),
        (TYPE, FILE + DATA.replace(b"{", b"") + END, "not JSON"),
        (TYPE, FILE + DATA.replace(b'{"a":1}', b"[]") + END, "not a JSON object"),
        (TYPE, FILE.replace(b'filename="a.pdf"', b"") + DATA + END, "filename"),
        (TYPE, FILE.replace(b"form-data", b"attachment") + DATA + END, "no name"),
        (TYPE, b"--b\r\nx\r\n" + END, "no head"),
    ],
)
def test_a_damaged_upload_is_refused(content_type: str, body: bytes, reason: str) -> None:
    """Each defect has its own words."""
    with pytest.raises(UploadRefused, match=reason):
        document_of(content_type, body)
