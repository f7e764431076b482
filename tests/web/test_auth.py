"""Who may ask for what: users, tokens, rights, host names; and what guessing costs."""

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

import bcrypt
import httpx
import pytest

from app.access import Access, Token, User, digest
from app.model import Snapshot
from app.state import State
from app.web import create_app
from app.web import passwords as passwords_module
from app.web.passwords import BusyError, Passwords
from app.web_config import ALL_RIGHTS, Right
from tests.builders import NOW, settings, snapshot
from tests.web.site import TOWN, Site, town
from tests.web_files import TOKENS, basic, bearer, hashed

READ_PATHS: Final = ("/", "/page.css", "/explain", "/events", "/wait", "/metrics",
                     "/openapi.json", "/nothing", "/targets/", "/-/nothing")  # fmt: skip
PATHS: Final[dict[str, Right]] = {
    **dict.fromkeys(READ_PATHS, "read"),
    "/targets": "targets",
    "/%74argets": "targets",
    "/scrape/-/none/web/-/9394": "scrape",
    "/%73crape/-/none/web/-/9394": "scrape",
    "/-/reload": "reload",
}
OPEN: Final = ("/-/healthy", "/-/ready")
HASHES: Final = {name: hashed(f"{name} knows") for name in ("anna", "prometheus")}
WHO: Final[dict[str, tuple[dict[str, str], frozenset[str]]]] = {
    "anna": (basic("anna", "anna knows"), ALL_RIGHTS),
    "prometheus": (basic("prometheus", "prometheus knows"), frozenset({"targets"})),
    "a token": (bearer(TOKENS["prometheus"]), frozenset({"targets", "scrape"})),
    "a token without Bearer": ({"Authorization": TOKENS["admin"]}, ALL_RIGHTS),
    "the scheme in lower case": ({"Authorization": f"bearer {TOKENS['admin']}"}, ALL_RIGHTS),
}
STRANGERS: Final = {
    "nobody": {},
    "a wrong password": basic("anna", "prometheus knows"),
    "no password": basic("anna", ""),
    "an unknown user": basic("eve", "anna knows"),
    "an empty user": basic("", "anna knows"),
    "no colon": {"Authorization": "Basic " + b64encode(b"anna").decode()},
    "no base64": {"Authorization": "Basic a:b"},
    "a wrong token": bearer(TOKENS["admin"] + "x"),
    "the beginning of a token": bearer(TOKENS["admin"][:-1]),
    "an empty token": bearer(""),
    "a scheme alone": {"Authorization": "Basic"},
    "a token that is no ASCII": {"Authorization": b"Bearer \xff\xfe"},
    "a token's file": bearer("admin.token"),
    "a token as a password": basic("anna", TOKENS["admin"]),
    "another scheme": {"Authorization": f"Digest {TOKENS['admin']}"},
}  # fmt: skip


def access(**given: Any) -> Access:
    users = {
        b"anna": User(HASHES["anna"].encode(), ALL_RIGHTS),
        b"prometheus": User(HASHES["prometheus"].encode(), frozenset({"targets"})),
    }
    tokens = (
        Token(digest(TOKENS["prometheus"].encode()), frozenset({"targets", "scrape"})),
        Token(digest(TOKENS["admin"].encode()), ALL_RIGHTS),
    )
    return Access(**{"users": users, "tokens": tokens, **given})


def guarded(access: Callable[[], Access]) -> Site:
    site = town()
    site.guard(access)
    return site


@pytest.fixture(scope="module")
def site() -> Site:
    return guarded(access)


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/events"])
@pytest.mark.parametrize(("headers", "rights"), WHO.values(), ids=WHO)
def test_each_path_needs_its_right(
    site: Site, path: str, headers: dict[str, str], rights: frozenset[str]
) -> None:
    answer = site.ask(path, headers)
    if PATHS[path] in rights:
        assert answer.status_code not in (401, 403)
    else:
        assert answer.status_code == 403
        assert answer.text.startswith(f"this needs the right {PATHS[path]}:")


@pytest.mark.parametrize("path", [*PATHS])
@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_learns_nothing(site: Site, path: str, headers: dict[str, str]) -> None:
    answer = site.ask(path, headers)
    assert answer.status_code == 401
    assert answer.text == "this needs a user or a token\n"
    assert answer.headers.get_list("WWW-Authenticate") == [
        'Basic realm="kamal-sd", charset="UTF-8"', 'Bearer realm="kamal-sd"'
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", [*PATHS])
def test_no_method_goes_around_it(site: Site, path: str, method: str) -> None:
    assert site.ask(path, method=method).status_code == 401


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_health_is_open(site: Site, path: str, headers: dict[str, str]) -> None:
    assert site.ask(path, headers).status_code == 200


def test_what_is_refused_is_counted(site: Site) -> None:
    site.ask("/targets")
    text = site.ask("/metrics", WHO["anna"][0]).text
    assert 'code="401"' in text


def test_without_users_and_tokens_all_is_open() -> None:
    open_site = guarded(Access)
    assert {open_site.ask(path).status_code for path in ("/targets", "/explain", "/metrics")} == {
        200
    }


def test_only_what_is_known_is_asked_for() -> None:
    of_tokens = guarded(lambda: access(users={}))
    answer = of_tokens.ask("/targets", basic("anna", "anna knows"))
    assert answer.status_code == 401
    assert answer.headers.get_list("WWW-Authenticate") == ['Bearer realm="kamal-sd"']


# --- browsers that are led astray ---


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("kamal-sd:9889", 200),
        ("KAMAL-SD:9889", 200),
        ("kamal-sd", 421),
        ("kamal-sd:80", 421),
        ("localhost", 200),
        ("localhost:1234", 200),
        ("[::1]:9889", 200),
        ("[::1]", 200),
        ("[::2]", 421),
        ("evil.example:9889", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_of_the_hosts_alone_it_may_be_asked(host: str, status: int) -> None:
    hosts = frozenset({"kamal-sd:9889", "localhost", "[::1]"})
    site = guarded(lambda: access(hosts=hosts))
    headers = {"Host": host} | WHO["anna"][0]
    assert site.ask("/targets", headers).status_code == status
    assert site.ask("/-/healthy", headers).status_code == 200


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [
        ("cross-site", "POST", 403),
        ("same-site", "POST", 403),
        ("same-origin", "POST", 404),
        ("none", "POST", 404),
        ("cross-site", "GET", 404),
    ],
)
def test_another_sites_page_changes_nothing(origin: str, method: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": origin} | WHO["anna"][0]
    assert guarded(access).ask("/nothing", headers, method).status_code == status


def test_headers_are_added_where_there_are_none() -> None:
    headers = ((b"content-security-policy", b"default-src *"), (b"x-frame-options", b"deny"))
    site = guarded(lambda: access(headers=headers))
    page = site.ask("/", WHO["anna"][0])
    assert page.headers["X-Frame-Options"] == "deny"
    assert page.headers.get_list("Content-Security-Policy") == [
        town().ask("/").headers["Content-Security-Policy"]
    ]
    refused = site.ask("/")
    assert refused.status_code == 401
    assert refused.headers["Content-Security-Policy"] == "default-src *"


# --- what bcrypt costs ---

Check = Callable[[bytes, bytes], bool]


class Counting:
    """bcrypt, which is counted, and works only while it is let."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.threads: set[int] = set()
        self.at_once = self.most_at_once = 0
        self.open = threading.Event()
        self.open.set()
        self._check: Check = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        self.hashes.append(hashed_password)
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.open.wait()
        self.at_once -= 1
        return self._check(password, hashed_password)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    counting = Counting()
    monkeypatch.setattr("bcrypt.checkpw", counting)
    yield counting
    counting.open.set()


def test_a_right_password_costs_once(counting: Counting) -> None:
    site = guarded(access)
    for _ in range(5):
        assert site.ask("/targets", WHO["anna"][0]).status_code == 200
    assert len(counting.hashes) == 1
    assert threading.get_ident() not in counting.threads


@pytest.mark.parametrize("user", ["anna", "eve", "", "x" * 1000, "an\u00f6ther"])
def test_a_wrong_one_costs_the_same_for_a_user_and_for_none(counting: Counting, user: str) -> None:
    site = guarded(access)
    for _ in range(3):
        assert site.ask("/targets", basic(user, "wrong")).status_code == 401
    assert len(counting.hashes) == 3
    # So its time does not tell, either, that it is none: a name has always the same cost.
    assert len(set(counting.hashes)) == 1


def test_somebody_elses_password_is_nobodys(counting: Counting) -> None:
    # For a name that is none, one of the hashes is taken, and it may well be of that password.
    site = guarded(access)
    for name in map(str, range(20)):
        for password in ("anna knows", "prometheus knows"):
            for _ in range(2):
                assert site.ask("/targets", basic(name, password)).status_code == 401
    assert len(counting.hashes) == 80
    assert set(counting.hashes) == {text.encode() for text in HASHES.values()}


def test_a_changed_password_counts_at_once() -> None:
    now = access()
    site = guarded(lambda: now)
    assert site.ask("/targets", WHO["anna"][0]).status_code == 200
    now = access(users={b"anna": User(hashed("new").encode(), ALL_RIGHTS)})
    assert site.ask("/targets", WHO["anna"][0]).status_code == 401
    assert site.ask("/targets", basic("anna", "new")).status_code == 200
    now = access(users={b"anna": User(hashed("new").encode(), frozenset({"read"}))})
    assert site.ask("/targets", basic("anna", "new")).status_code == 403


def test_a_user_who_is_renamed_is_known_by_the_new_name_alone() -> None:
    one = User(HASHES["anna"].encode(), ALL_RIGHTS)
    now = access(users={b"anna": one})
    site = guarded(lambda: now)
    assert site.ask("/targets", WHO["anna"][0]).status_code == 200
    now = access(users={b"bob": one})
    assert site.ask("/targets", WHO["anna"][0]).status_code == 401
    assert site.ask("/targets", basic("bob", "anna knows")).status_code == 200


@pytest.mark.parametrize("password", ["", "a:b", "p\u00e4ssword", "a\0b", "x" * 72])
def test_any_password_is_one(password: str) -> None:
    users = {b"anna": User(hashed(password).encode(), ALL_RIGHTS)}
    site = guarded(lambda: access(users=users))
    assert site.ask("/targets", basic("anna", password)).status_code == 200
    assert site.ask("/targets", basic("anna", password[1:] + "?")).status_code == 401


def test_one_that_is_longer_than_bcrypt_reads_is_cut_as_others_do() -> None:
    users = {b"anna": User(hashed("x" * 72).encode(), ALL_RIGHTS)}
    site = guarded(lambda: access(users=users))
    assert site.ask("/targets", basic("anna", "x" * 80)).status_code == 200
    assert site.ask("/targets", basic("anna", "x" * 71)).status_code == 401


def client(app: Any, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://kamal-sd")


def app_of(*snapshots: Snapshot) -> Any:
    checked = settings()
    return create_app(State(snapshots, checked, clock=lambda: NOW), Future, access)


def test_a_flood_of_wrong_passwords_holds_nobody_up_who_is_known(counting: Counting) -> None:
    app = app_of(snapshot(*TOWN))

    async def scene() -> None:
        async with client(app, "10.0.0.1") as evil, client(app, "10.0.0.2") as good:
            assert (await good.get("/targets", headers=WHO["prometheus"][0])).status_code == 200
            counting.open.clear()
            flood = [
                asyncio.create_task(evil.get("/targets", headers=basic("anna", f"guess {number}")))
                for number in range(200)
            ]
            answers = [await good.get("/targets", headers=bearer(TOKENS["admin"]))]
            answers.append(await good.get("/targets", headers=WHO["prometheus"][0]))
            answers.append(await evil.get("/targets", headers=bearer(TOKENS["admin"])))
            assert [each.status_code for each in answers] == [200] * 3
            # One is being checked, and three wait; the others are sent away.
            coming = asyncio.as_completed(flood)
            done = [await next(coming) for _ in range(196)]
            assert [each.status_code for each in done] == [429] * 196
            assert done[0].headers["Retry-After"] == "5"
            # Whoever is not known yet, waits for these alone.
            new = asyncio.create_task(good.get("/targets", headers=WHO["anna"][0]))
            await asyncio.sleep(0.05)
            assert not new.done()
            counting.open.set()
            assert (await new).status_code == 200
            codes = [each.status_code for each in await asyncio.gather(*flood)]
            assert sorted(codes) == [401] * 4 + [429] * 196
            # When it is over, it is over.
            assert (await evil.get("/targets", headers=WHO["anna"][0])).status_code == 200

    asyncio.run(scene())
    assert len(counting.hashes) == 1 + 4 + 1
    assert counting.most_at_once == 1


def test_the_same_credentials_asked_for_at_once_are_one_check(counting: Counting) -> None:
    app = app_of(snapshot(*TOWN))

    async def scene() -> None:
        async with client(app, "10.0.0.1") as good:
            asked = [good.get("/targets", headers=WHO["anna"][0]) for _ in range(50)]
            assert {each.status_code for each in await asyncio.gather(*asked)} == {200}

    asyncio.run(scene())
    assert len(counting.hashes) == 1


def test_who_gives_up_takes_nobody_along(counting: Counting) -> None:
    hashes = {b"anna": HASHES["anna"].encode()}

    async def scene() -> None:
        passwords = Passwords(asyncio.Event())
        counting.open.clear()
        first, second = (
            asyncio.create_task(passwords.are_right(hashes, b"anna", b"anna knows", "a"))
            for _ in range(2)
        )
        await asyncio.sleep(0.01)
        first.cancel()
        counting.open.set()
        assert await second

    asyncio.run(scene())
    assert len(counting.hashes) == 1


def test_there_is_an_end_to_what_waits_and_to_what_is_remembered(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {b"anna": hashed("x" * 72).encode()}
    monkeypatch.setattr(passwords_module, "_MOST_VERIFIED", 10)

    async def scene() -> None:
        passwords = Passwords(asyncio.Event())
        for number in range(25):
            # All of them are right, as far as bcrypt reads.
            long = b"x" * 72 + str(number).encode()
            assert await passwords.are_right(hashes, b"anna", long, "a")
            assert len(passwords._verified) <= 10
        counting.open.clear()
        asked = [
            asyncio.create_task(passwords.are_right(hashes, b"anna", b"%d" % number, f"{number}"))
            for number in range(100)
        ]
        await asyncio.sleep(0.05)
        busy = [each for each in asked if each.done()]
        assert len(busy) == 36
        assert all(isinstance(each.exception(), BusyError) for each in busy)
        counting.open.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert not passwords._checks
        assert not +passwords._clients

    asyncio.run(scene())
