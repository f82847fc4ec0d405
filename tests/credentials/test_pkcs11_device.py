"""Keys in SoftHSM, through the process that loads the module."""

import asyncio
import hashlib
import os
import shutil
import signal
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA512

from proxy.clock import SystemClock
from proxy.credentials.client_assertion import AssertionSigner
from proxy.credentials.keys import KeyUnusable, load_private_key
from proxy.credentials.pkcs11_device import LOOK_SECONDS, Pkcs11Device
from proxy.credentials.refused_pins import RefusedPins
from proxy.credentials.remote_key import KeyUnavailable, PinRefused
from proxy.credentials.signing_key import remote_key
from proxy.entropy import SystemEntropy
from proxy.secret import Secret
from proxy.settings.pkcs11_uri import Pkcs11Uri
from tests.credentials.support_keys import make_pair
from tests.support.softhsm import PIN, Token, faulty_module, labels, needs_softhsm
from tests.upstream.support import eventually

pytestmark = needs_softhsm

# A machine that is busy must not look like a module that hangs.
PATIENT_SECONDS = 60.0

_CURVE = """
curve = {Attribute.EC_PARAMS: encode_named_curve_parameters('secp256r1')}
session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(store=True, label='curve')
"""
_MUTE = """
template = {Attribute.SIGN: False}
session.generate_keypair(KeyType.RSA, 2048, store=True, label='mute', private_template=template)
"""
_TWO = """
for number in (b'\\x0a', b'\\x0b'):
    session.generate_keypair(KeyType.RSA, 2048, store=True, label='two', id=number)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and its certificate, made by openssl."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module that fails on demand."""
    return faulty_module(tmp_path_factory.mktemp("module"))


@pytest.fixture
def token(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Token:
    """A token with that key, known to this process's children."""
    token = Token(tmp_path)
    token.import_key(pair[0], label="oauth")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    return token


@pytest.fixture
def devices() -> Iterator[list[Pkcs11Device]]:
    """The devices of a test, closed after it."""
    opened: list[Pkcs11Device] = []
    yield opened
    for device in opened:
        device.close()


@pytest.fixture
def device_of(devices: list[Pkcs11Device]) -> "Make":
    """Make devices."""
    return Make(devices)


class Forwarded:
    """The system's clocks, which a test can put forward."""

    now = staticmethod(SystemClock.now)
    sleep = staticmethod(SystemClock.sleep)

    def __init__(self) -> None:
        self.ahead = 0.0  # seconds

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return SystemClock.monotonic() + self.ahead


class Make:
    """Makes a device for a URI; all devices are as of one process, with `pins`."""

    def __init__(self, opened: list[Pkcs11Device]) -> None:
        self._opened = opened
        self.pins = RefusedPins(entropy=SystemEntropy())
        self.clock = Forwarded()

    def __call__(self, uri: str, *, pin: str | None = PIN, seconds: float = PATIENT_SECONDS) -> Pkcs11Device:
        """Return a device that is closed after the test."""
        secret = Secret(pin) if pin is not None else None
        device = Pkcs11Device(
            Pkcs11Uri.parse(uri), pin=secret, expected=None, seconds=seconds, clock=self.clock, pins=self.pins
        )
        self._opened.append(device)
        return device


def pid_of(device: Pkcs11Device) -> int:
    """Return the process of *device*."""
    assert device._process is not None
    return device._process.pid


def test_its_signature_is_the_keys(token: Token, pair: tuple[Path, Path], device_of: Make) -> None:
    """The same bytes as openssl's, since PKCS#1 v1.5 has no chance in it; the process is started once."""
    device = device_of(token.uri())
    key = load_private_key(pair[0])

    assert device.sign(b"header.claims") == key.sign(b"header.claims", padding.PKCS1v15(), SHA256())
    first = pid_of(device)
    assert device.public_key().public_numbers() == key.public_key().public_numbers()
    device.sign(b"again")
    assert pid_of(device) == first
    assert not any(PIN.encode() in Path(f"/proc/{first}/{name}").read_bytes() for name in ("cmdline", "environ"))


def test_a_digest_is_signed_like_its_input(token: Token, device_of: Make) -> None:
    """As RSA key too: `Prehashed` says that it is a digest."""
    device = device_of(token.uri())
    digest = hashlib.sha256(b"header.payload").digest()
    signature = device.sign(b"header.payload")

    assert device.sign_digest(digest) == signature
    assert remote_key(device, name="oauth").sign(digest, padding.PKCS1v15(), Prehashed(SHA256())) == signature
    with pytest.raises(NotImplementedError):
        remote_key(device, name="oauth").sign(digest, padding.PKCS1v15(), Prehashed(SHA512()))


def test_its_process_gets_no_secret_of_ours(token: Token, device_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor's module sees its own variables, and none in which payproxy is given secrets."""
    for name in ("PAYPROXY_CREDENTIALS__A__CLIENT_SECRET", "JPM_CLIENT_SECRET", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.setenv(name, "a-planted-secret")
    device = device_of(token.uri())
    device.sign(b"header.claims")

    told = Path(f"/proc/{pid_of(device)}/environ").read_bytes()
    assert b"SOFTHSM2_CONF=" in told
    assert b"a-planted-secret" not in told


def test_a_key_made_in_the_token_stays_there(token: Token, device_of: Make) -> None:
    """It can't be taken out, signs only, and is not made twice."""
    device = device_of(token.uri("fresh"))
    public = device.generate()

    public.verify(device_of(token.uri("fresh")).sign(b"data"), b"data", padding.PKCS1v15(), SHA256())
    rights = token.prepare(
        "key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label='fresh')\n"
        "print(key[Attribute.EXTRACTABLE], key[Attribute.SENSITIVE], key[Attribute.DECRYPT], key[Attribute.SIGN])"
    )
    assert rights.split() == ["False", "True", "False", "True"]
    with pytest.raises(KeyUnusable, match="has a key with that label already"):
        device_of(token.uri("fresh")).generate()
    assert labels(token).count("fresh") == 1


def test_a_key_of_the_token_is_used_as_an_rsa_key(token: Token, device_of: Make) -> None:
    """A signature that is not the expected key's is not used."""
    device = device_of(token.uri())
    key = remote_key(device, name="oauth")

    assert key.key_size == 2048
    assert repr(key) == "<RemoteKey oauth>"
    with pytest.raises(NotImplementedError):
        key.private_numbers()
    device._public = device_of(token.uri("another")).generate()
    with pytest.raises(KeyUnusable, match="not one of the expected key"):
        key.sign(b"data", padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    ("prepare", "label", "says"),
    [
        ("", "missing", r'no such private key; it has "oauth"; correct object= or id='),
        (
            _CURVE,
            "curve",
            "the key is EC, not RSA",
        ),
        (
            _MUTE,
            "mute",
            r"may not sign \(CKA_SIGN is false\)",
        ),
        ("session.generate_keypair(KeyType.RSA, 1024, store=True, label='short')", "short", "1024 bits, fewer than"),
        (
            _TWO,
            "two",
            "2 private keys have that name; add id= of the right one: (%0a, %0b|%0b, %0a)",
        ),
    ],
    ids=["missing", "EC", "not for signing", "short", "two"],
)
def test_a_key_that_is_of_no_use(token: Token, device_of: Make, prepare: str, label: str, says: str) -> None:
    """Each says where, what and how to mend it, and is no fault that passes."""
    if prepare:
        token.prepare(prepare)
    with pytest.raises(KeyUnusable, match=says) as raised:
        device_of(token.uri(label)).sign(b"data")

    assert not isinstance(raised.value, KeyUnavailable)
    assert str(raised.value).startswith(f'token "payments", key "{label}": ')
    assert PIN not in str(raised.value)


def test_the_id_tells_two_keys_of_one_label_apart(token: Token, device_of: Make) -> None:
    """As the message about them says."""
    token.prepare(_TWO)
    one, other = (device_of(token.uri("two", more=f";id={each}")).public_key() for each in ("%0a", "%0b"))

    assert one.public_numbers() != other.public_numbers()


def test_a_key_without_its_public_object(token: Token, pair: tuple[Path, Path], device_of: Make) -> None:
    """The private object shows the public numbers too."""
    token.prepare("[one.destroy() for one in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})]")

    public = device_of(token.uri()).public_key()
    assert public.public_numbers() == load_private_key(pair[0]).public_key().public_numbers()


def test_a_key_that_can_be_taken_out_is_known(token: Token, device_of: Make) -> None:
    """What makes it one in hardware is that it can't be."""
    token.prepare(
        "session.generate_keypair(KeyType.RSA, 2048, store=True, label='loose',"
        " private_template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False})"
    )
    loose, held = device_of(token.uri("loose")), device_of(token.uri("held"))
    loose.sign(b"data")
    held.generate()

    assert loose.extractable
    assert not held.extractable


@pytest.mark.parametrize(
    ("module", "says"),
    [("/nowhere/libvendor.so", "can't be read; install the vendor's library"), (__file__, "is no PKCS#11 module")],
)
def test_no_module(token: Token, device_of: Make, module: str, says: str) -> None:
    """A missing file, and one that is none."""
    with pytest.raises(KeyUnusable, match=says):
        device_of(token.uri(module=module)).sign(b"data")


def test_two_tokens_of_one_label(token: Token, device_of: Make) -> None:
    """The serial tells them apart, and the message names both."""
    token.initialise("payments")
    with pytest.raises(KeyUnusable, match="2 tokens have that label; add serial= of the right one: ") as raised:
        device_of(token.uri()).sign(b"data")

    serials = str(raised.value).rpartition(": ")[2].split(", ")
    answers = []
    for serial in serials:
        try:
            answers.append(bool(device_of(token.uri(more=f";serial={serial}")).sign(b"data")))
        except KeyUnusable:
            answers.append(False)
    assert sorted(answers) == [False, True]


def test_a_wrong_pin_is_tried_once(token: Token, faulty: Path, device_of: Make) -> None:
    """However often a signature is wanted: tokens lock after a few."""
    device = device_of(token.uri(module=faulty), pin="0000-wrong")
    depths = set()
    for _ in range(5):
        with pytest.raises(KeyUnusable, match=r"the PIN is wrong; correct the PIN \(this one is not given") as raised:
            device.sign(b"data")
        assert "0000-wrong" not in str(raised.value)
        depths.add(len(traceback.extract_tb(raised.tb)))

    assert token.logins == 1
    # The first, those that only remember it, and one that looked at the token: none keeps the frames of those before.
    assert len(depths) <= 3


def test_each_attribute_of_the_token_is_compared(token: Token, device_of: Make) -> None:
    """RFC 7512 2.3: what p11-kit and pkcs11-tool print may be copied into the configuration as it is."""
    shown = token.prepare(
        "library = pkcs11.lib(sys.argv[1])\n"
        "print(token.slot.manufacturer_id, token.slot.slot_id, *library.library_version, sep='|')"
    )
    slot_maker, slot, major, minor = shown.strip().split("|")
    fits = {
        "manufacturer": "SoftHSM project",
        "model": "SoftHSM v2",
        "library-manufacturer": "SoftHSM",
        "library-description": "Implementation of PKCS11",
        "library-version": f"{major}.{minor}",
        "slot-manufacturer": slot_maker,
        "slot-id": slot,
    }
    whole = "".join(f";{name}={quote(value)}" for name, value in fits.items())
    assert device_of(token.uri(more=whole)).sign(b"data")
    for name in fits:
        with pytest.raises(
            KeyUnavailable, match=f"is not there; plug it in or start it, and compare token= and {name}="
        ):
            device_of(token.uri(more=f";{name}=99")).sign(b"data")


def test_a_wrong_serial_is_named(token: Token, device_of: Make) -> None:
    """It is what the operator has to look at."""
    uri = token.uri(more=";serial=00").replace("token=payments;", "")
    with pytest.raises(KeyUnavailable, match=r"and compare serial= with `pkcs11-tool --list-token-slots`"):
        device_of(uri).sign(b"data")


def refused(device: Pkcs11Device) -> PinRefused:
    """Return why *device* does not sign."""
    with pytest.raises(PinRefused, match="the PIN is wrong; correct the PIN") as raised:
        device.sign(b"data")
    return raised.value


def test_a_wrong_pin_is_tried_once_for_all_keys_of_a_token(token: Token, faulty: Path, device_of: Make) -> None:
    """The token counts for itself: other keys, other devices and other names of the token are no further tries."""
    token.prepare("session.generate_keypair(KeyType.RSA, 2048, store=True, label='second')")
    by_serial = token.uri(module=faulty).replace("token=payments", f"serial={token.serial}")
    for uri in (token.uri(module=faulty), token.uri("second", module=faulty), token.uri(module=faulty), by_serial):
        refused(device_of(uri, pin="0000-wrong"))
    assert token.logins == 1
    refused(device_of(token.uri(module=faulty), pin="0001-wrong"))
    assert token.logins == 2

    assert device_of(token.uri("second", module=faulty)).sign(b"data")


def test_threads_try_a_wrong_pin_once(token: Token, faulty: Path, device_of: Make) -> None:
    """Keys have threads of their own: those that come second wait for how the first login ends."""
    devices = [device_of(token.uri(module=faulty), pin="0000-wrong") for _ in range(4)]
    with ThreadPoolExecutor(4) as executor:
        assert len(list(executor.map(refused, devices))) == 4

    assert token.logins == 1


def test_the_pin_of_another_token_is_tried(token: Token, faulty: Path, device_of: Make) -> None:
    """Each token counts for itself."""
    token.initialise("other")
    for name in ("payments", "other", "payments", "other"):
        uri = token.uri(module=faulty).replace("token=payments", f"token={name}")
        assert refused(device_of(uri, pin="0000-wrong")).clears

    assert token.logins == 2


def test_a_login_by_hand_is_seen(token: Token, faulty: Path, device_of: Make) -> None:
    """The token's flags tell of it, so the refused PIN is tried once more: it may be the token's by now."""
    device = device_of(token.uri(module=faulty), pin="0000-of-tomorrow")
    assert refused(device).clears
    token.change_pin("0000-of-tomorrow")
    refused(device)  # its token is not looked at all the time
    assert token.logins == 1
    device_of.clock.ahead += LOOK_SECONDS

    assert device.sign(b"data")
    assert token.logins == 2


def test_each_login_by_hand_is_worth_one_try(token: Token, faulty: Path, device_of: Make) -> None:
    """If the PIN is still wrong."""
    device = device_of(token.uri(module=faulty), pin="0000-wrong")
    for number in (1, 2, 3):
        for _ in range(3):
            device_of.clock.ahead += LOOK_SECONDS
            refused(device)
            refused(device_of(token.uri(module=faulty), pin="0000-wrong"))
        assert token.logins == number
        token.log_in_by_hand()


@pytest.mark.parametrize("where", ["always", "elsewhere"])
def test_a_token_that_does_not_show_wrong_pins(token: Token, faulty: Path, device_of: Make, where: str) -> None:
    """Or only to the process that gave them: nothing tells of a login by hand, so the PIN is never tried again."""
    token.fail(f"unflagged {where}")
    for _ in range(3):
        device = device_of(token.uri(module=faulty), pin="0000-wrong")
        for _ in range(2):
            assert not refused(device).clears
            device_of.clock.ahead += LOOK_SECONDS
    token.log_in_by_hand()
    refused(device_of(token.uri(module=faulty), pin="0000-wrong"))

    assert token.logins == 1


def test_the_last_try_is_made_after_a_login_by_hand(token: Token, faulty: Path, device_of: Make) -> None:
    """By the same device: nobody has to restart or to write the file again."""
    token.fail("flags 20000")
    device = device_of(token.uri(module=faulty))
    with pytest.raises(PinRefused, match="one more wrong PIN locks the token"):
        device.sign(b"data")
    token.faults.unlink()
    device_of.clock.ahead += LOOK_SECONDS

    assert device.sign(b"data")


@pytest.mark.parametrize(
    ("fault", "says", "logins"),
    [
        ("flags 20000", "one more wrong PIN locks the token, so it is not tried", 0),
        ("flags 40000", "locked after too many wrong PINs; unlock it with the security officer's PIN", 0),
        ("login a4", "locked after too many wrong PINs", 1),
    ],
)
def test_the_last_try_is_never_spent(  # noqa: PLR0917 - fixtures and a table's columns
    token: Token, faulty: Path, device_of: Make, fault: str, says: str, logins: int
) -> None:
    """Not even by a service manager that starts us again and again."""
    token.fail(fault)
    for _ in range(3):
        with pytest.raises(KeyUnusable, match=says):
            device_of(token.uri(module=faulty)).sign(b"data")

    assert token.logins == logins


@pytest.mark.parametrize(
    ("place", "mode", "says"),
    [
        ("faulty.so", 0o775, "others may change it, and read the PIN and have anything signed; `chmod go-w "),
        ("faulty.so", 0o757, "others may change it, and read the PIN"),
        ("", 0o777, "others may write in .* (mode 0777)"),
    ],
    ids=["group", "others", "its directory"],
)
def test_a_module_that_others_may_change_is_not_loaded(  # noqa: PLR0917 - fixtures and a table's columns
    tmp_path: Path, token: Token, faulty: Path, device_of: Make, place: str, mode: int, says: str
) -> None:
    """It would get the PIN; a link to it in a directory of ours changes nothing."""
    folder = tmp_path / "vendor"
    folder.mkdir(mode=0o700)
    shutil.copy(faulty, folder)
    (folder / place).chmod(mode)
    (tmp_path / "link.so").symlink_to(folder / "faulty.so")
    for module in (folder / "faulty.so", tmp_path / "link.so"):
        with pytest.raises(KeyUnusable, match=says.replace("(", r"\(").replace(")", r"\)")):
            device_of(token.uri(module=module)).sign(b"data")
    assert token.logins == 0


def test_no_pin(token: Token, device_of: Make) -> None:
    """The token wants one."""
    with pytest.raises(KeyUnusable, match="wants a PIN and none is configured; set private_key_pin_file"):
        device_of(token.uri(), pin=None).sign(b"data")


@pytest.mark.parametrize("code", ["32", "b3", "e0", "30"], ids=["removed", "session lost", "no token", "device error"])
def test_a_lost_session_is_opened_again(token: Token, faulty: Path, device_of: Make, code: str) -> None:
    """Once, within the same signature; nobody notices."""
    device = device_of(token.uri(module=faulty))
    device.sign(b"data")
    first = pid_of(device)
    token.fail(f"sign {code} once")

    assert device.sign(b"data")
    assert pid_of(device) != first
    assert not Path(f"/proc/{first}").exists()


def test_a_token_that_was_away_comes_back(token: Token, device_of: Make) -> None:
    """While it is away the failure says so, and is one that passes."""
    device = device_of(token.uri())
    device.sign(b"data")
    token.take_away()
    device.close()
    with pytest.raises(KeyUnavailable, match="the token is not there; plug it in or start it"):
        device.sign(b"data")
    token.bring_back()

    assert device.sign(b"data")


@pytest.mark.parametrize("fault", ["initialize hang", "sign hang"])
def test_a_module_that_hangs_is_ended(token: Token, faulty: Path, device_of: Make, fault: str) -> None:
    """In time, with its process; the next signature starts another, which works once the module does."""
    token.fail(fault)
    device = device_of(token.uri(module=faulty), seconds=1.0)
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"the module /.*faulty\.so did not answer in time"):
            device.sign(b"data")
        assert device._process is None
    token.faults.unlink()

    assert device_of(token.uri(module=faulty)).sign(b"data")


async def test_a_module_that_hangs_does_not_delay_the_stop(token: Token, faulty: Path, device_of: Make) -> None:
    """However long the timeout of the credential is: its process is ended; what the next signature starts works."""
    token.fail("sign hang")
    device = device_of(token.uri(module=faulty), seconds=3600.0)
    device.public_key()
    key = remote_key(device, name="token")
    executor = key.executor
    assert isinstance(executor, ThreadPoolExecutor)
    signer = AssertionSigner(key)
    signing = asyncio.create_task(signer.sign({}, key_id="kid"))
    await eventually(lambda: bool(executor._threads) and executor._work_queue.empty())

    await signer.close()

    with pytest.raises(KeyUnavailable, match=r"the signature was given up|SIGKILL"):
        await signing
    assert device._process is None
    token.faults.unlink()
    assert await signer.sign({}, key_id="kid")


def test_a_module_that_crashes_ends_its_process_only(token: Token, faulty: Path, device_of: Make) -> None:
    """And says how."""
    device = device_of(token.uri(module=faulty))
    device.sign(b"data")
    token.fail("sign crash")
    with pytest.raises(KeyUnavailable, match="was ended by SIGABRT; look at the token"):
        device.sign(b"data")
    token.faults.unlink()

    assert device.sign(b"data")


def test_it_ends_with_us_even_while_the_module_hangs(token: Token, faulty: Path, device_of: Make) -> None:
    """Its stdin tells it, which is closed when our process ends, however that ends."""
    token.fail("sign hang")
    device = device_of(token.uri(module=faulty))
    device.public_key()
    process = device._process
    assert process is not None
    process._write(b'{"sign": "00"}\n')
    assert process._process.stdin is not None
    process._process.stdin.close()

    assert process._process.wait(PATIENT_SECONDS) == 0


def test_a_killed_process_is_started_again(token: Token, device_of: Make) -> None:
    """By the next signature."""
    device = device_of(token.uri())
    device.sign(b"data")
    os.kill(pid_of(device), signal.SIGKILL)

    assert device.sign(b"data")
