from proxy.settings.findings import Finding, Severity, did_you_mean, in_order, nearest


def finding(line: int, severity: Severity = Severity.ERROR) -> Finding:
    """Return a finding on *line*."""
    return Finding(severity=severity, file="a.toml", line=line, key="server.listen", what="is wrong", fix="mend it")


def test_a_finding_reads_like_a_compilers_message() -> None:
    """Editors and people find file and line in front, and what to do at the end."""
    assert str(finding(3)) == "a.toml:3: error: server.listen: is wrong; mend it"
    assert str(finding(0, Severity.WARNING)) == "a.toml: warning: server.listen: is wrong; mend it"


def test_a_finding_as_data() -> None:
    """--json has the same six things under their names."""
    expected = {
        "severity": "error",
        "file": "a.toml",
        "line": 3,
        "key": "server.listen",
        "what": "is wrong",
        "fix": "mend it",
    }
    assert finding(3).as_dict() == expected


def test_order() -> None:
    """Findings stand as in the file, each once."""
    assert in_order([finding(5), finding(2), finding(5)]) == (finding(2), finding(5))


def test_the_nearest_name() -> None:
    """A typing error is recognised, another word is not."""
    assert nearest("paymnts", ["payments", "reports"]) == "payments"
    assert nearest("zzz", ["payments", "reports"]) is None
    assert did_you_mean("zzz", ["b", "a"]) == 'known are "a", "b"'
    assert did_you_mean("zzz", []) == "there is none"
