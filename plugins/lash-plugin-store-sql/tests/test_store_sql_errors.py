"""What goes wrong, as a table: each cause has its error, which names the place and says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attrs import evolve

from lash_hookspecs.errors import (
    CommitRefused,
    ConfigurationError,
    Contended,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreVersionError,
)
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.plugins import PluginInfo
from lash_hookspecs.stores import NodesLater, SessionMeta, Store, StoreContext, UsageDelta
from lash_hookspecs.testing.plugins import imported_by
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import Runner, effect, new_item
from lash_plugin_store_sql import plugin
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.schema import APPLICATION_ID, VERSION
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver, database_path
from lash_plugin_store_sql.store import SqlStore, open_store

CHILDREN = Path(__file__).with_name("store_sql_children.py")


async def opened(path: Path, **settings: object) -> SqlStore:
    return await open_store(StoreContext(url=f"sqlite:///{path}", settings=SqlSettings(**settings)))  # type: ignore[arg-type]  # settings by name, as a test gives them


def run(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


async def test_a_relative_path_stays_the_same_place_whatever_a_tool_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a tool had changed the folder, reads failed, or went to another database of that name."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    store = await opened(Path("lash.db"))
    scribe = Scribe("s1")
    await scribe.write(store, scribe.turn("hello"))
    monkeypatch.chdir(tmp_path / "other")
    assert await store.load_head("s1") is not None
    await store.aclose()
    assert list((tmp_path / "other").iterdir()) == []


# ---- files that aren't for us ---------------------------------------------------------------------------------------


def newer(path: Path) -> None:
    run(path, "CREATE TABLE sessions (a)", f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 99")


def newer_with_a_log(path: Path) -> None:
    newer(path)
    run(path, "PRAGMA journal_mode = WAL", "CREATE TABLE more (a)")


def older(path: Path) -> None:
    run(path, "CREATE TABLE sessions (a)", f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 1")


def nonsense_version(path: Path) -> None:
    run(path, f"PRAGMA application_id = {APPLICATION_ID}", "CREATE TABLE sessions (a)", "PRAGMA user_version = -1")


def a_text(path: Path) -> None:
    path.write_text("Dear diary, " * 100)


def an_application(path: Path) -> None:
    run(path, "CREATE TABLE bookmarks (a)", "INSERT INTO bookmarks VALUES (1)")


def a_marked_application(path: Path) -> None:
    run(path, "CREATE TABLE bookmarks (a)", "PRAGMA application_id = 252006673")


def an_empty_database_with_a_version(path: Path) -> None:
    run(path, "CREATE TABLE t (a)", "DROP TABLE t", f"PRAGMA user_version = {VERSION}")


FOREIGN: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (newer, ("version 99", f"version {VERSION}", "newer", "Upgrade")),
    (newer_with_a_log, ("version 99", f"version {VERSION}")),
    (older, ("older", "format 1", f"version {VERSION}", "another path")),
    (nonsense_version, ("version -1",)),
    (a_text, ("file is not a database; nothing was touched; choose another path",)),
    (an_application, ("another application", "1 tables")),
    (a_marked_application, ("another application", "252006673")),
    (an_empty_database_with_a_version, ("another application", f"user version {VERSION}")),
]


@pytest.mark.parametrize(("make", "words"), FOREIGN, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_file_that_isnt_for_us_is_refused_and_not_touched(
    make: Callable[[Path], None], words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "file.db"
    make(path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(StoreVersionError) as caught:
        await opened(path)
    for word in (str(path), "othing", "touched", *words):
        assert word in str(caught.value)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


async def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    """`mktemp` makes those."""
    path = tmp_path / "empty.db"
    path.touch()
    store = await opened(path)
    await store.aclose()
    with path.open("rb") as file:
        header = file.read(100)
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == VERSION


# ---- places ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///agent.db", "agent.db"),
        ("sqlite:///some dir/a%20b.db", "some dir/a%20b.db"),
        ("sqlite:////var/lib/agent.db", "/var/lib/agent.db"),
        ("sqlite:///~/agent.db", "/srv/somebody/agent.db"),
        ("sqlite:///what? #1.db", "what? #1.db"),
    ],
)
def test_urls(url: str, path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/somebody")
    assert database_path(url) == path


@pytest.mark.parametrize(
    "url", ["sqlite:agent.db", "sqlite:/agent.db", "sqlite://agent.db", "agent.db", "postgres:///x"]
)
async def test_a_wrong_url_shows_right_ones(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///relative\.db"):
        await open_store(StoreContext(url=url))


async def test_one_missing_directory_is_made_two_are_named(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data" / "lash.db")
    await store.aclose()
    with pytest.raises(StoreUnavailable) as caught:
        await opened(tmp_path / "one" / "two" / "lash.db")
    assert f"there is no directory `{tmp_path / 'one'}`" in str(caught.value)
    assert not (tmp_path / "one").exists()


async def test_a_path_that_cant_be_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "file" / "lash.db"):
        with pytest.raises(StoreUnavailable) as caught:
            await opened(path)
        assert str(path) in str(caught.value)


def as_nobody(path: Path) -> str:
    out = subprocess.run(
        [sys.executable, CHILDREN, "nobody", path],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    return out.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach: pytest's own is for its user alone, and made so again by each new run."""
    with TemporaryDirectory() as name:
        yield Path(name)


async def test_what_cant_be_written_is_named_with_a_remedy(open_folder: Path) -> None:
    """A read-only directory, new file or not, and a read-only file in a directory that can be written."""
    open_folder.chmod(0o755)
    path = open_folder / "lash.db"
    store = await opened(path)
    await store.aclose()
    open_folder.chmod(0o555)
    for each in (path, open_folder / "new.db"):
        out = as_nobody(each)
        assert out.startswith(f"StoreUnavailable `{each}`")
        assert f"`{open_folder}`" in out
        assert "make both writable" in out
    open_folder.chmod(0o777)
    path.chmod(0o444)
    out = as_nobody(path)
    assert out.startswith(f"StoreUnavailable `{path}`: no permission to write `{path}`")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """In a process whose files may not grow: what fits is committed, the rest is told, and life goes on."""
    out = subprocess.run(
        [sys.executable, CHILDREN, "full_disk", tmp_path / "lash.db"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    said = dict(line.split(" ", 1) for line in out.stdout.splitlines())
    assert {said[f"small{number}"] for number in range(6)} == {"ok"}
    for name in ("s", *(f"large{number}" for number in range(6))):
        assert said[name].startswith("StoreUnavailable")
        assert "lash.db" in said[name]
    assert said["same"] == "head True"
    assert said["after"] == "2"


# ---- damage ---------------------------------------------------------------------------------------------------------


async def test_a_damaged_page_is_corrupt_and_not_empty(tmp_path: Path) -> None:
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    for _ in range(30):
        await scribe.write(store, scribe.turn("x" * 5_000))
    await store.aclose()
    data = bytearray(path.read_bytes())
    for page in range(40, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xaa" * 200
    path.write_bytes(data)
    store = await opened(path)
    with pytest.raises(StoreCorrupt, match=r"lash\.db"):
        await store.load_session("s1")
    await store.aclose()


async def test_missing_tables_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "lash.db"
    store = await opened(path)
    run(path, "DROP TABLE tombstones")
    with pytest.raises(StoreCorrupt, match="tombstones"):
        await store.session_was_deleted("s1")
    await store.aclose()


DAMAGE = [
    ("sessions", "UPDATE sessions SET turn_index = 'many'", "load_head"),
    ("sessions", "UPDATE sessions SET leaf = x'00'", "load_head"),
    ("sessions", "UPDATE sessions SET labels = '{'", "load_meta"),
    ("nodes", "UPDATE nodes SET body = 'text' WHERE kind = 'message'", "load_session"),
    ("nodes", "UPDATE nodes SET timestamp_ms = 'now'", "load_session"),
    ("nodes", "UPDATE nodes SET frame_key = NULL", "load_session"),
    ("usage", "UPDATE usage SET output = -1", "load_session"),
    ("blobs", "UPDATE blobs SET data = 'text'", "load_head"),
    ("receipts", "UPDATE receipts SET intent_hash = x'00'", "list_receipts"),
    ("receipts", "UPDATE receipts SET leaf = randomblob(32)", "list_receipts"),
    ("sessions", "UPDATE sessions SET lease_generation = 'one'", "load_lease"),
    ("sessions", "UPDATE sessions SET lease_generation = 0", "load_lease"),
    ("sessions", "UPDATE sessions SET lease_token = 7 + 0.5, lease_holder = NULL", "load_lease"),
    ("sessions", "UPDATE sessions SET lease_expires_at_ms = NULL", "load_lease"),
    ("sessions", "UPDATE sessions SET lease_holder = '[]'", "load_lease"),
    ("sessions", 'UPDATE sessions SET lease_holder = \'{"owner": "x"}\'', "load_lease"),
    ("sessions", "UPDATE sessions SET lease_displaced = '{}'", "load_lease"),
    ("inbox", "UPDATE inbox SET ingress = 'surprise'", "list_inbox"),
    ("inbox", "UPDATE inbox SET payload = 'text'", "list_inbox"),
    ("inbox", "UPDATE inbox SET attempts = -1", "list_inbox"),
    ("inbox", "UPDATE inbox SET available_at_ms = 'now'", "list_inbox"),
    ("inbox", "UPDATE inbox SET claim_generation = 'first'", "list_inbox"),
    ("journal", "UPDATE journal SET replay_key = x'00'", "load_journal"),
]


@pytest.mark.parametrize(("table", "damage", "method"), DAMAGE, ids=[damage for _, damage, _ in DAMAGE])
async def test_a_row_that_breaks_its_rules_is_named_by_its_table(
    table: str, damage: str, method: str, tmp_path: Path
) -> None:
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    usage = (UsageDelta(source="turn", model="m", usage=TokenUsage(input=1)),)
    await scribe.write(store, scribe.turn("hello", usage=usage))
    lease, item = await Runner().begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("a")])
    run(path, damage)
    with pytest.raises(StoreCorrupt, match=f"table `{table}`"):
        await getattr(store, method)(*(["s1", "t-k1"] if method == "load_journal" else ["s1"]))
    await store.aclose()


@pytest.mark.parametrize(
    "damage", ["body = 'text'", "digests = 1", "envelope_hash = 'text'", "envelope_hash = x'00'", "status = 'of later'"]
)
async def test_a_record_that_is_damaged_is_there_and_says_nothing(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It kept the whole turn from being begun, so that nobody could even give it up."""
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    await scribe.write(store, scribe.turn("hello"))
    lease, item = await Runner().begin(store, new_item())
    rows = [effect("a"), effect("b")]
    await store.append_journal(lease, item.no, rows)
    run(path, f"UPDATE journal SET {damage} WHERE (key & 1) = 0")
    damaged, sound = await store.load_journal("s1", "t-k1")
    assert sound == rows[1]
    assert (damaged.key, damaged.kind, damaged.label) == (rows[0].key, rows[0].kind, rows[0].label)
    assert (damaged.status, damaged.body, damaged.digests) == (JournalStatus.DONE, b"", b"")
    intent = effect("c", status=JournalStatus.INTENT)
    await store.append_journal(lease, item.no, [intent])
    run(path, "UPDATE journal SET body = 'text' WHERE status = 'intent'")
    assert (await store.load_journal("s1", "t-k1"))[-1] == evolve(intent, body=b"", digests=b"")
    assert damaged.envelope_hash == ("00" * 32 if "envelope_hash" in damage else rows[0].envelope_hash)
    assert "table `journal`" in caplog.text
    with pytest.raises(StoreCorrupt, match="recorded already"):
        await store.append_journal(lease, item.no, [rows[0]])
    await store.aclose()


NODE_DAMAGE = {
    "body = 'text'": 2,
    "node_id = 'text'": 2,
    "node_id = randomblob(32)": 3,  # the one below it has another parent
    "parent = randomblob(32)": 2,
    "parent = NULL": 2,
    "kind = 'other'": 2,
    "kind = 'frame_open'": 2,
    "timestamp_ms = 'now'": 2,
    "frame_key = 'x'": 2,
    "frame_generation = 1": 2,
    "key = (key >> 32 << 32) + 99": 2,  # a gap
}


@pytest.mark.parametrize(("damage", "generation"), NODE_DAMAGE.items(), ids=[*NODE_DAMAGE])
@pytest.mark.parametrize("all_frames", [True, False])
async def test_a_damaged_node_is_named_by_its_generation(
    damage: str, generation: int, all_frames: bool, tmp_path: Path
) -> None:
    """The quick look at whole columns sees all that the slow one at each row can name, in the first frame and later."""
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    if not all_frames:
        await scribe.write(store, scribe.turn("old", "older"))
        generation += 3
    await scribe.write(store, scribe.turn("a", "b", "c", frame="new"))
    loaded = await store.load_session("s1", all_frames=all_frames)
    assert loaded is not None
    assert [node.body for node in loaded.nodes] == [b"{}", b"a", b"b", b"c"]
    later = await store.load_session("s1", all_frames=all_frames, later=True)
    assert later is not None
    assert isinstance(later.nodes, NodesLater)
    run(path, f"UPDATE nodes SET {damage} WHERE body = x'62'")
    fault = f"table `nodes`, session `s1`, generation {generation}: a gap, or a row"
    with pytest.raises(StoreCorrupt, match=fault):
        await store.load_session("s1", all_frames=all_frames)
    with pytest.raises(StoreCorrupt, match=fault):
        await later.nodes.load_bodies()
    await store.aclose()


async def test_a_frame_that_the_head_does_not_name_is_corrupt(tmp_path: Path) -> None:
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    await scribe.write(store, scribe.turn("a", "b"))
    run(path, "UPDATE sessions SET frame = randomblob(32)")
    later = await store.load_session("s1", later=True)
    assert later is not None
    assert isinstance(later.nodes, NodesLater)
    for load in (lambda: store.load_session("s1"), later.nodes.load_bodies):
        with pytest.raises(StoreCorrupt, match="generation 0: it isn't the frame that the head names"):
            await load()
    await store.aclose()


@pytest.mark.parametrize("revision", ["'abc'", "x'00'", "1.5", "-1"])
async def test_a_revision_that_is_no_number_is_corrupt_for_whoever_asks(revision: str, tmp_path: Path) -> None:
    """It is what every turn asks first; text used to come out of it as a bare `ValueError`."""
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path)
    await scribe.write(store, scribe.turn("a"))
    run(path, f"UPDATE sessions SET head_revision = {revision}")
    for ask in (store.load_revision, store.load_head, store.load_session):
        with pytest.raises(StoreCorrupt, match="table `sessions`, `s1`: its revision"):
            await ask("s1")
    await store.aclose()


# ---- calls ----------------------------------------------------------------------------------------------------------


CALLS: list[tuple[str, str, Callable[[SqlStore], Awaitable[object]]]] = [
    ("time", "integer_range", lambda store: store.create_session(SessionMeta(session_id="s", created_at_ms=1 << 63))),
    ("limit", "integer_range", lambda store: store.list_sessions(limit=1 << 64)),
    ("id", "text", lambda store: store.create_session(SessionMeta(session_id="\ud800", created_at_ms=1))),
    ("lookup", "text", lambda store: store.load_head("\ud800")),
    ("commit", "text", lambda store: store.commit(evolve(Scribe().turn("x"), session_id="\ud800"))),
]


@pytest.mark.parametrize(("code", "call"), [each[1:] for each in CALLS], ids=[each[0] for each in CALLS])
async def test_values_that_sqlite_cant_hold_are_refused_by_code(
    code: str, call: Callable[[SqlStore], Awaitable[object]]
) -> None:
    store = await open_store(StoreContext(url="sqlite://"))
    with pytest.raises(CommitRefused) as caught:
        await call(store)
    assert caught.value.code == code
    await store.aclose()


async def test_another_process_that_writes_for_too_long_is_contention(tmp_path: Path) -> None:
    """And the same call succeeds, unchanged, once it has finished."""
    path, scribe = tmp_path / "lash.db", Scribe()
    store = await opened(path, busy_timeout_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    commit = scribe.turn("hello")
    with pytest.raises(Contended, match="may be made again"):
        await store.commit(commit)
    assert await store.load_head("s1") is None
    other.execute("COMMIT")
    other.close()
    await scribe.write(store, commit)
    await store.aclose()


@pytest.mark.parametrize("settings", [{"synchronous": "off"}, {"busy_timeout_s": 0}, {"readers": 0}], ids=str)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SqlSettings(**settings)  # type: ignore[arg-type]  # on purpose


async def test_settings_of_another_class_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="SqlSettings"):
        await open_store(StoreContext(url="sqlite://", settings={"synchronous": "full"}))


def test_every_error_of_the_database_has_a_meaning() -> None:
    """Whatever SQLite reports is a `StoreError` with the place in it; bugs of ours stay what they are."""
    driver = SqliteDriver("some.db", SqlSettings())
    names = [name for name in dir(sqlite3) if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int)]
    for name in names:
        error = sqlite3.OperationalError("oh")
        error.sqlite_errorcode = getattr(sqlite3, name)
        known = driver.error(error)
        assert isinstance(known, StoreError)
        assert "some.db" in str(known)
    assert isinstance(driver.error(sqlite3.ProgrammingError("closed")), StoreError)
    bug = KeyError("bug")
    assert driver.error(bug) is bug


# ---- the plugin, and blobs on the way -------------------------------------------------------------------------------


async def test_the_plugin_offers_the_store(tmp_path: Path) -> None:
    info = plugin.lash_plugin_info()
    assert isinstance(info, PluginInfo)
    assert (info.id, info.version) == ("store-sql", "0.1.0")
    (spec,) = plugin.lash_stores()
    assert (spec.schemes, spec.settings) == (("sqlite",), SqlSettings)
    store = await spec.open(StoreContext(url=f"sqlite:///{tmp_path / 'a.db'}"))
    assert isinstance(store, Store)
    assert store.location == str(tmp_path / "a.db")
    await store.aclose()


def test_the_plugin_imports_nothing_heavy() -> None:
    heavy = {"attrs", "attr", "sqlite3", "anyio", "orjson", "lash_hookspecs.stores"}
    assert not heavy & imported_by("import lash_plugin_store_sql.plugin")


async def test_bytes_that_nobody_adopts_are_dropped_after_a_day() -> None:
    """By the puts that come later, a few each time; what a session adopted stays, and goes with the session."""
    now = 0
    store = await SqlStore.open(SqliteDriver(None, SqlSettings()), MemoryLocks(), now_ms=lambda: now)
    day, scribe = 24 * 60 * 60 * 1000, Scribe()
    lost = [await store.put_blob(b"lost %d" % number, "image/png") for number in range(20)]
    kept = await store.put_blob(b"kept", "image/png")
    await scribe.write(store, scribe.turn("x", adopted_blobs=(kept.id,)))
    now = day // 2
    await store.put_blob(b"lost 0", "image/png")  # somebody is on the way with it again
    now = day + 1
    for left in (20, 4, 1):
        found = [await store.get_blob(ref.id) for ref in lost]
        assert len(found) - found.count(None) == left
        await store.put_blob(b"new", "image/png")
    assert [await store.get_blob(ref.id) for ref in lost] == [b"lost 0", *[None] * 19]
    assert await store.get_blob(kept.id) == b"kept"
    await store.delete_session("s1")
    assert await store.get_blob(kept.id) is None
    await store.aclose()
