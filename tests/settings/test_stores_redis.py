from pathlib import Path

import pytest

from proxy.settings.stores import REDIS, UrlUnusable
from proxy.settings.values import masked
from tests.settings.support import load_text, one_finding, plain

STATE = '\n[state]\nurl = "rediss://redis.example:6380/2"\nencryption_key_files = ["state.key"]\n'


def test_a_shared_state_without_faults(tmp_path: Path) -> None:
    """The whole URL is had where it is used, and files are absolute."""
    loaded = load_text(tmp_path, plain(more=STATE))
    assert loaded.findings == ()
    assert loaded.settings is not None
    url = loaded.settings.state.redis()

    assert url is not None
    assert url.reveal() == "rediss://redis.example:6380/2"
    assert loaded.settings.state.encryption_key_files == (str(tmp_path / "state.key"),)
    assert loaded.settings.state.shared


def test_without_a_url_the_state_is_this_machines(tmp_path: Path) -> None:
    """That is the default."""
    settings = load_text(tmp_path, plain()).settings
    assert settings is not None
    assert settings.state.redis() is None
    assert not settings.state.shared


@pytest.mark.parametrize(("value", "there"), [("true", 1), ("false", 0)])
def test_tokens_that_shall_be_shared_need_a_redis(tmp_path: Path, value: str, there: int) -> None:
    """A warning, only where the key was written: it is the default."""
    asked = plain().replace("[credentials.login]", f"[credentials.login]\nshare_tokens = {value}")
    findings = load_text(tmp_path, asked).findings

    assert [(one.key, one.severity) for one in findings] == [("credentials.login.share_tokens", "warning")] * there
    assert load_text(tmp_path, asked + STATE).findings == ()


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ("rediss://redis.example:6380/2", "redis://redis.example:6380/2", "state.url", "in the clear"),
        ("rediss://redis.example:6380/2", "https://redis.example", "state.url", "not that of a Redis"),
        ("rediss://redis.example:6380/2", "redis.example:6380", "state.url", "not that of a Redis"),
        ("rediss://redis.example:6380/2", "rediss://:6380/2", "state.url", "names no server"),
        ("rediss://redis.example:6380/2", "rediss://redis.example:0", "state.url", "names no server"),
        ("rediss://redis.example:6380/2", "rediss://redis.example:x", "state.url", "can't be understood"),
        ("rediss://redis.example:6380/2", "rediss://redis.example/a", "state.url", "has more than"),
        ("rediss://redis.example:6380/2", "rediss://redis.example/?ssl_cert_reqs=none", "state.url", "has more than"),
        ("rediss://redis.example:6380/2", "rediss://redis .example", "state.url", "a blank"),
        ('encryption_key_files = ["state.key"]', "", "state.encryption_key_files", "must be encrypted"),
        ("[state]", '[state]\nurl_file = "u"', "state.url_file", "there is a url too"),
    ],
)
def test_one_fault_of_the_state(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    """What is said of a URL never quotes it."""
    text = plain(more=STATE)
    assert old in text
    finding = one_finding(load_text(tmp_path, text.replace(old, new, 1)))

    assert finding.key == key
    assert what in finding.what
    assert "redis.example" not in str(finding)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379", "redis://[::1]:6379/0", "redis://localhost/", "rediss://h"])
def test_urls_of_a_redis(tmp_path: Path, url: str) -> None:
    """Plain is fine where nobody listens on the way."""
    text = plain(more=STATE.replace("rediss://redis.example:6380/2", url))
    assert load_text(tmp_path, text).findings == ()


def test_a_password_does_not_belong_into_the_file(tmp_path: Path) -> None:
    """In a variable it is fine, and it is shown nowhere."""
    url = "rediss://user:canary@redis.example"
    finding = one_finding(load_text(tmp_path, plain(more=STATE.replace("rediss://redis.example:6380/2", url))))
    assert finding.key == "state.url"
    assert "a password must not be" in finding.what
    assert "canary" not in str(finding)

    loaded = load_text(tmp_path, plain(more=STATE), environ={"PAYPROXY_STATE__URL": url})
    assert loaded.settings is not None, loaded.findings
    assert masked(loaded.settings)["state"]["url"] == "rediss://user:***@redis.example"
    assert "canary" not in repr(loaded.settings)
    redis = loaded.settings.state.redis()
    assert redis is not None
    assert redis.reveal() == url


def test_a_url_from_a_file(tmp_path: Path) -> None:
    """It is read when it is needed, without its line feed."""
    path = tmp_path / "redis.url"
    path.touch(mode=0o600)
    path.write_text("rediss://:canary@redis.example/1\n")
    text = plain(more=STATE.replace('url = "rediss://redis.example:6380/2"', 'url_file = "redis.url"'))
    loaded = load_text(tmp_path, text)
    assert loaded.settings is not None, loaded.findings
    redis = loaded.settings.state.redis()

    assert loaded.settings.state.shared
    assert redis is not None
    assert redis.reveal() == "rediss://:canary@redis.example/1"
    assert "canary" not in str(REDIS.read(path))


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (b"rediss://:canary@h", 0o640, "group or others may read it"),
        (b"redis://:canary@redis.example", 0o600, "in the clear"),
        (b"canary", 0o600, "not that of a Redis"),
        (b"", 0o600, "is empty"),
        (b"rediss://\xff", 0o600, "not UTF-8"),
        (b"rediss://" + b"h" * 9000, 0o600, "larger than"),
    ],
)
def test_a_file_without_a_usable_url(tmp_path: Path, content: bytes, mode: int, what: str) -> None:
    """It is said what is wrong and how to mend it, not what it holds."""
    path = tmp_path / "redis.url"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(UrlUnusable, match=what) as caught:
        REDIS.read(path)

    assert "; " in str(caught.value)
    assert "canary" not in str(caught.value)
