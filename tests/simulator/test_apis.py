import hashlib
import json

import aiohttp
import pytest
from yarl import URL

from proxy.simulator.clients import AUDIENCES, RESOURCES
from proxy.simulator.report import report_blocks
from proxy.simulator.server import Bank
from proxy.simulator.token_endpoints import ADFS_PATH, MODERN_PATH
from tests.simulator.support import Identity, adfs_form, ask, bearing, mock_token, modern_form

PAYMENTS = "/payment/v2/payments"


@pytest.fixture
async def token(session: aiohttp.ClientSession, bank: Bank) -> str:
    """A live Mock token."""
    return await mock_token(session, bank)


async def test_helloworld_needs_a_live_token(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """The first call of a newcomer answers 200 with a token and 401 without."""
    async with session.get(bank.url + "/payment/helloworld", headers=bearing(token)) as good:
        assert (good.status, await good.json()) == (200, {"message": "Hello, world"})
    async with session.get(bank.url + "/payment/helloworld") as bad:
        assert bad.status == 401


@pytest.mark.parametrize(
    ("authorization", "note"),
    [
        (None, "no bearer token"),
        ("Bearer wrong", "token unknown"),
        ("Basic bW9jaw==", "no bearer token"),
        ("Bearer", "no bearer token"),
    ],
)
async def test_gp2_says_401_in_its_own_shape(
    bank: Bank, session: aiohttp.ClientSession, authorization: str | None, note: str
) -> None:
    """Global Payments 2 answers title, httpStatus, traceId, requestId and context 14000; nothing is executed."""
    headers = {"Request-Id": "r-1"} if authorization is None else {"Request-Id": "r-1", "Authorization": authorization}
    async with session.post(bank.url + PAYMENTS, data=b"{}", headers=headers) as response:
        value = await response.json()

    assert response.status == 401
    assert (value["title"], value["httpStatus"], value["requestId"]) == ("Authentication Failure", 401, "r-1")
    assert value["context"] == [{"code": "14000", "message": "Client could not be authenticated"}]
    assert bank.world.seen(PAYMENTS)[0].note == note
    assert bank.world.accepted.total() == 0


async def test_a_payment_is_accepted_once_per_key(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """The same Idempotency-Key gives 201, then 200 with Duplicate-Request, one id, and one execution."""
    headers = bearing(token, **{"Idempotency-Key": "k-1"})
    async with session.post(bank.url + PAYMENTS, data=b'{"a":1}', headers=headers) as first:
        one = await first.json()
    async with session.post(bank.url + PAYMENTS, data=b'{"a":1}', headers=headers) as second:
        two = await second.json()

    assert (first.status, second.status) == (201, 200)
    assert ("Duplicate-Request" in first.headers, second.headers["Duplicate-Request"]) == (False, "true")
    assert one["paymentId"] == two["paymentId"]
    assert bank.world.accepted == {"k-1": 1}
    sent, again = bank.world.seen(PAYMENTS, "POST")
    assert sent.body_sha256 == again.body_sha256 == hashlib.sha256(b'{"a":1}').hexdigest()


async def test_a_key_belongs_to_its_client(
    bank: Bank, session: aiohttp.ClientSession, token: str, who: Identity
) -> None:
    """Another client with the same key pays again: what a migration in mid-flight must not do."""
    _, value, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who))
    for each in (token, value["access_token"]):
        headers = bearing(each, **{"Idempotency-Key": "k-1"})
        async with session.post(bank.url + PAYMENTS, data=b"{}", headers=headers) as response:
            assert response.status == 201

    assert bank.world.accepted["k-1"] == 2


async def test_payments_without_key_are_all_executed(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """No key, no memory."""
    for _ in range(2):
        async with session.post(bank.url + PAYMENTS, data=b"{}", headers=bearing(token)) as response:
            assert response.status == 201

    assert bank.world.accepted[""] == 2


async def test_a_payment_can_be_fetched(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """GET by id gives the payment, the list names it, another id is 404."""
    async with session.post(bank.url + PAYMENTS, data=b"{}", headers=bearing(token)) as response:
        made = (await response.json())["paymentId"]
    statuses = []
    for path in (f"{PAYMENTS}/{made}", PAYMENTS, f"{PAYMENTS}/none"):
        async with session.get(bank.url + path, headers=bearing(token)) as response:
            statuses.append(response.status)
            value = await response.json()

    assert statuses == [200, 200, 404]
    assert value["httpStatus"] == 404


async def test_each_path_wants_its_audience(bank: Bank, session: aiohttp.ClientSession, who: Identity) -> None:
    """A live token for one audience or resource opens the paths of that product only."""
    _, modern, _ = await ask(session, bank.url + MODERN_PATH, modern_form(bank, who, audience=AUDIENCES["reporting"]))
    _, legacy, _ = await ask(session, bank.url + ADFS_PATH, adfs_form(bank, who, resource=RESOURCES["payments"]))
    statuses = {}
    for name, value in (("modern", modern), ("legacy", legacy)):
        for path in ("/payment/helloworld", "/api/v1/reports/1"):
            async with session.get(bank.url + path, headers=bearing(value["access_token"])) as response:
                statuses[name, path] = response.status

    assert statuses == {
        ("modern", "/payment/helloworld"): 401,
        ("modern", "/api/v1/reports/1"): 200,
        ("legacy", "/payment/helloworld"): 200,
        ("legacy", "/api/v1/reports/1"): 401,
    }
    assert bank.world.seen("/payment")[0].note == "token for another audience"


async def test_access_can_be_changed(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """The world says which audiences open a prefix, the longest prefix of whole segments counting."""
    bank.world.access["/payment/v2"] = frozenset({"jpm:uri:prod:special"})
    statuses = []
    for path in (PAYMENTS, "/payment/helloworld"):
        async with session.get(bank.url + path, headers=bearing(token)) as response:
            statuses.append(response.status)

    assert statuses == [401, 200]


async def test_validations_never_say_401(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """Validation Services refuse a token with 403 GCA-001 and serve a live one."""
    url = bank.url + "/tsapi/v2/validations"
    async with session.post(url, data=b"[]", headers=bearing("dead")) as bad:
        value = await bad.json()
    async with session.post(url, data=b"[]", headers=bearing(token)) as good:
        assert good.status == 200

    assert (bad.status, value) == (403, {"errors": [{"errorCode": "GCA-001", "errorMsg": "Unauthorized Access"}]})


async def test_checkout_speaks_plain_text(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """Checkout answers a bad token and a merchant that isn't boarded with 403 in plain text."""
    bank.world.merchants.add("1")
    url = bank.url + "/v1/checkout/intent"
    answers = []
    for each, merchant in ((token, "1"), (token, "2"), ("dead", "1")):
        headers = bearing(each, merchantId=merchant, requestId="r1")
        async with session.post(url, data=b"{}", headers=headers) as response:
            answers.append((response.status, response.content_type, await response.text()))

    assert answers[0][0] == 200
    assert answers[1:] == [(403, "text/plain", "Invalid JWT. Denying request.")] * 2


@pytest.mark.parametrize(
    "headers",
    [{"merchant-id": "1", "request-id": "r"}, {"merchantId": "1", "requestId": "r" * 23}, {"merchantId": "1"}],
)
async def test_checkout_wants_camel_case_and_short_ids(
    bank: Bank, session: aiohttp.ClientSession, token: str, headers: dict[str, str]
) -> None:
    """Renamed headers and ids above 22 characters are 400 in gRPC's shape."""
    async with session.post(
        bank.url + "/v1/checkout/intent", data=b"{}", headers=bearing(token, **headers)
    ) as response:
        assert (response.status, (await response.json())["code"]) == (400, 3)


async def test_online_payments_answer_with_invalid_json(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """The wallet answer has a comma in place of a value, as the bank's has."""
    async with session.post(bank.url + "/api/v2/payments", data=b"{}", headers=bearing(token)) as response:
        body = await response.read()

    assert b'"month": ,' in body
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)


@pytest.mark.parametrize("chunked", ["", "&chunked=1"])
async def test_a_report_streams_from_the_second_host(
    bank: Bank, session: aiohttp.ClientSession, token: str, chunked: str
) -> None:
    """The report names an absolute URL on another port, which gives the CSV in the size asked for."""
    async with session.get(bank.url + "/api/v1/reports/7", headers=bearing(token)) as response:
        url = (await response.json())["reportDetails"]["url"]
    async with session.get(f"{url}?size=3000001{chunked}", headers=bearing(token)) as response:
        body = await response.read()

    assert url == bank.files_url + "/api/v1/report-files/7"
    assert bank.files_url != bank.url
    assert body == b"".join(report_blocks(3000001))
    assert ("Content-Length" in response.headers) == (not chunked)
    assert response.content_type == "text/csv"
    assert str(bank.world.seen("/api/v1/report-files")[0].port) == bank.files_url.rpartition(":")[2]


async def test_a_report_of_no_size_is_refused(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """A size that is no number is 400, and a report needs a token too."""
    statuses = []
    for headers, size in ((bearing(token), "many"), ({}, "1")):
        async with session.get(f"{bank.url}/api/v1/report-files/1?size={size}", headers=headers) as response:
            statuses.append(response.status)

    assert statuses == [400, 401]


async def test_a_document_is_uploaded_once(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """A multipart upload is taken apart, its file hashed, and its Idempotency-Key remembered."""
    content = bytes(range(256)) * 1000
    statuses = []
    for _ in range(2):
        form = aiohttp.FormData()
        form.add_field("file", content, filename="id.pdf", content_type="application/pdf")
        form.add_field("documentData", '{"documentType":"PASSPORT"}', content_type="application/json")
        headers = bearing(token, **{"Idempotency-Key": "d-1"})
        async with session.post(bank.url + "/documents", data=form, headers=headers) as response:
            statuses.append(response.status)
            value = await response.json()

    assert statuses == [201, 200]
    assert value["fileSha256"] == hashlib.sha256(content).hexdigest()
    assert bank.world.accepted["d-1"] == 1


async def test_a_damaged_upload_is_refused(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """An upload without its parts is 400, and not executed."""
    headers = bearing(token, **{"Content-Type": "multipart/form-data; boundary=x"})
    async with session.post(bank.url + "/documents", data=b"--x--\r\n", headers=headers) as response:
        assert response.status == 400

    assert bank.world.accepted.total() == 0


async def test_echo_tells_what_arrived_but_not_the_token(
    bank: Bank, session: aiohttp.ClientSession, token: str
) -> None:
    """Method, raw target, headers in order and spelling, size and hash come back; of the token its fingerprint."""
    headers = bearing(token, merchantId="1", Accept="text/plain")
    async with session.put(URL(bank.url + "/echo/a?b=%2f&c", encoded=True), data=b"abc", headers=headers) as response:
        text = await response.text()
    value = json.loads(text)

    fingerprint = hashlib.sha256(token.encode()).hexdigest()[:16]
    assert (value["method"], value["body_size"]) == ("PUT", 3)
    assert value["target"] == "/echo/a?b=%2f&c"
    assert value["body_sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert ["merchantId", "1"] in value["headers"]
    assert ["Authorization", f"Bearer {fingerprint}"] in value["headers"]
    assert value["token_fingerprint"] == fingerprint
    assert token not in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/payment/helloworld"),
        ("DELETE", PAYMENTS),
        ("GET", "/tsapi/v2/validations"),
        ("GET", "/documents"),
    ],
)
async def test_a_wrong_method_is_405(
    bank: Bank, session: aiohttp.ClientSession, token: str, method: str, path: str
) -> None:
    """A method that the API doesn't have is 405."""
    async with session.request(method, bank.url + path, headers=bearing(token)) as response:
        assert response.status == 405


@pytest.mark.parametrize("path", ["/", "/nothing", "/payment", "/echoes", "/payment/v2/paymentsx"])
async def test_an_unknown_path_is_404(bank: Bank, session: aiohttp.ClientSession, token: str, path: str) -> None:
    """A path that no API has is 404, with or without a token."""
    async with session.get(bank.url + path, headers=bearing(token)) as response:
        assert response.status == 404


async def test_a_payment_is_found_by_its_request_id(bank: Bank, session: aiohttp.ClientSession, token: str) -> None:
    """By the client that made it, once the books show it; a retry enters no second one."""
    url = URL(bank.url + PAYMENTS + "?requestId=r%2F1", encoded=True)
    headers = bearing(token, **{"Request-Id": "r/1", "Idempotency-Key": "k-1"})

    async def found() -> list[str]:
        async with session.get(url, headers=bearing(token)) as response:
            return [one["paymentId"] for one in (await response.json())["payments"]]

    assert await found() == []
    for _ in range(2):
        async with session.post(bank.url + PAYMENTS, data=b"{}", headers=headers) as made:
            identity = (await made.json())["paymentId"]
    assert await found() == [identity]
    async with session.post(f"{bank.url}/_sim/books", json={"delay": 3600}) as steered:
        assert await steered.json() == {"delay": 3600.0}
    assert await found() == []
    assert bank.world.booked("another", "r/1") == ""
