"""`haulier push`, `transfers`, `remote`, `agent` and `watch`, as people run them."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import httpx2
import pytest

from tests.support.process_state import has_open
from tests.support.processes import Commands, Ran, ServeProcess, serving, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(tmp_path_factory.mktemp("service") / "data", {"HAULIER_NO_TRANSFERS": "true"}) as running:
        yield running


@pytest.fixture
def haulier(service: ServeProcess, tmp_path: Path) -> Commands:
    commands = Commands(service.url, tmp_path / "work")
    added = commands.run("remote", "add", "here", "--type", "haulier", "--url", service.url)
    assert (added.code, added.out) == (0, "added here\n")
    return commands


def stored(haulier: Commands, prefix: str) -> dict[str, int]:
    """What the service has below a prefix: sizes by path."""
    found = haulier.run("ls", prefix, "--json").documents
    assert len({each["path"] for each in found}) == len(found), "two versions of one path"
    return {each["path"]: each["size"] for each in found}


def is_there(haulier: Commands, folder: str, name: str) -> bool:
    return f"{folder}{name}" in stored(haulier, folder)


def ids(ran: Ran) -> list[str]:
    return [each["id"] for each in ran.documents]


def first_line(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    out: IO[bytes] = process.stdout
    return out.readline().decode()


def stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return process.returncode


def test_pushed_files_arrive_under_a_folder(haulier: Commands) -> None:
    for name, size in (("a.bin", 3_000_000), ("empty", 0)):
        (haulier.folder / name).write_bytes(bytes(size))
    pushed = haulier.run("push", "a.bin", "empty", "--to", "here:folder/", "--json")
    assert pushed.code == 0, pushed.err
    assert {each["outcome"] for each in pushed.documents} == {"succeeded"}
    assert {each["label"] for each in pushed.documents} == {"Completed, Succeeded"}
    assert stored(haulier, "folder/") == {"folder/a.bin": 3_000_000, "folder/empty": 0}
    shown = haulier.run("transfers", "show", pushed.documents[0]["id"], "--json")
    assert shown.documents == [{**pushed.documents[0], "place": None}]
    waited = haulier.run("transfers", "wait", *ids(pushed), "--json")
    assert (waited.code, sorted(ids(waited))) == (0, sorted(ids(pushed)))
    again = haulier.run("transfers", "list", "--json")
    assert sorted(ids(again)) == sorted(ids(pushed))


def test_what_cannot_be_pushed_is_told_and_keeps_nothing_else_back(haulier: Commands) -> None:
    (haulier.folder / "good").write_bytes(b"1")
    pushed = haulier.run("push", "missing", "good", "--to", "here:told/")
    assert pushed.code == 1
    assert "missing" in pushed.err
    assert stored(haulier, "told/") == {"told/good": 1}
    for to, words in (("nowhere:x", "there is no remote 'nowhere'"), ("here", "must be REMOTE:PATH")):
        refused = haulier.run("push", "good", "--to", to)
        assert refused.code == 2
        assert words in refused.err
    no_id = haulier.run("push", "good", "--to", "here:good", "--id", "a/b")
    assert no_id.code == 2
    assert "without /" in no_id.err
    not_known = haulier.run("push", "good", "--to", "here:good", "--if-exists", "fail")
    assert not_known.code == 2
    assert "if_exists: a Haulier service keeps every record; only replace is known there" in not_known.err
    no_text = haulier.run("transfers", "show", os.fsdecode(b"\xff"))
    assert no_text.code == 2
    assert "transfer_id: '\\xff' is not UTF-8" in no_text.err
    several = haulier.run("push", "good", "good", "--to", "here:one")
    assert several.code == 2
    assert "ends with /" in several.err


def test_files_that_would_take_each_others_place_are_refused(haulier: Commands) -> None:
    for name in ("one/f", "two/f"):
        (haulier.folder / name).parent.mkdir()
        (haulier.folder / name).write_text(name)
    refused = haulier.run("push", "one/f", "two/f", "--to", "here:taken/", COLUMNS="200")
    assert refused.code == 2
    assert "'one/f' and 'two/f' would be one file there" in refused.err
    assert haulier.run("push", "one/f", "./one/f", "two/../one/f", "--to", "here:taken/").code == 0
    assert stored(haulier, "taken/") == {"taken/f": 5}


def test_a_folder_is_not_watched_for_a_remote_that_there_is_not(haulier: Commands) -> None:
    for to, words in (("nowhere:x/", "there is no remote of that name"), (":x/", "must be REMOTE:PATH")):
        refused = haulier.run("watch", ".", "--to", to, COLUMNS="200")
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err


def test_what_is_only_queued_waits_for_a_runner(haulier: Commands) -> None:
    (haulier.folder / "f").write_bytes(b"12345")
    queued = haulier.run("push", "f", "--to", "here:later", "--no-wait", "--id", "mine", "--json")
    assert queued.code == 3
    assert "no process runs this journal" in queued.err
    assert queued.documents[0]["phase"] == "queued"
    paused = haulier.run("transfers", "pause", "mine")
    assert paused.code == 3
    assert haulier.run("transfers", "resume", "mine").code == 3
    waited = haulier.run("transfers", "wait", "mine", "--json")
    assert (waited.code, waited.documents[0]["outcome"]) == (0, "succeeded")
    assert stored(haulier, "later") == {"later": 5}
    again = haulier.run("transfers", "retry", "mine", "--json")
    assert (again.code, again.documents[0]["retry_of"]) == (3, "mine")
    assert haulier.run("transfers", "remove", "mine").code == 0
    gone = haulier.run("transfers", "show", "mine")
    assert gone.code == 1
    assert "it was removed" in gone.err


def test_a_wait_for_nothing_ends_and_one_that_is_too_short_says_so(haulier: Commands) -> None:
    unknown = haulier.run("transfers", "wait", "never", "--timeout", "0.1")
    assert unknown.code == 1
    assert "there is no transfer 'never'" in unknown.err
    (haulier.folder / "f").write_bytes(b"1")
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    late = haulier.run("push", "f", "--to", "dead:f", "--timeout", "0.5")
    assert late.code == 3
    assert "is still" in late.err


def test_whoever_only_looks_makes_no_journal_and_says_that_there_is_none(
    service: ServeProcess, tmp_path: Path
) -> None:
    haulier = Commands(service.url, tmp_path / "work")
    place = tmp_path / "nowhere" / "j.db"
    said = f"haulier: there is no journal {place}; a push, a watch or an agent makes it\n"
    for code, arguments in (
        (0, ["list"]),
        (0, ["list", "--json"]),
        *((1, [each, "t"]) for each in ("show", "pause", "resume", "cancel", "bump", "retry", "remove")),
        (3, ["bandwidth", "1MB"]),
    ):
        ran = haulier.run("transfers", *arguments, "--journal", place)
        assert (ran.code, ran.out, ran.err) == (code, "", said)
    waited = haulier.run("transfers", "wait", "t", "--timeout", "0", "--journal", place)
    assert (waited.code, waited.err) == (1, f"haulier: there is no transfer 't'\n{said}")
    assert haulier.run("remote", "list").out == ""
    assert haulier.run("remote", "rm", "r").code == haulier.run("remote", "test", "r").code == 2
    assert list(tmp_path.rglob("*")) == [haulier.folder]


def test_an_agent_runs_the_journal_alone(haulier: Commands) -> None:
    agent = haulier.start("agent")
    try:
        assert first_line(agent) == f"haulier agent ready, journal {haulier.folder}/home/journal.db\n"
        second = haulier.run("agent")
        assert second.code == 4
        assert f"process {agent.pid} runs this journal already" in second.err
        (haulier.folder / "f").write_bytes(b"agent")
        assert haulier.run("push", "f", "--to", "here:agent/one", "--no-wait", "--id", "a1").code == 0
        assert haulier.run("push", "f", "--to", "here:agent/two").code == 0
        assert haulier.run("transfers", "wait", "a1").code == 0
    finally:
        code = stop(agent)
    assert code == 0
    assert stored(haulier, "agent/") == {"agent/one": 5, "agent/two": 5}


def test_what_is_wanted_is_obeyed_by_whoever_runs_the_journal(haulier: Commands) -> None:
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    for name in ("one", "two"):
        (haulier.folder / name).write_bytes(b"1")
    agent = haulier.start("agent")

    def phase_of(name: str) -> str:
        phase: str = haulier.run("transfers", "show", name, "--json").documents[0]["phase"]
        return phase

    try:
        first_line(agent)
        for name in ("one", "two"):
            assert haulier.run("push", name, "--to", "dead:", "--no-wait", "--id", name).code == 0
        for wish in ("bump", "pause"):
            assert haulier.run("transfers", wish, "one").code == 0
        wait_until(lambda: phase_of("one") == "paused", "it rests")
        assert haulier.run("transfers", "resume", "one").code == 0
        wait_until(lambda: phase_of("one") != "paused", "it goes on")
        assert ids(haulier.run("transfers", "list", "--live", "--json")) == ["two", "one"]
        assert ids(haulier.run("transfers", "list", "--remote", "here", "--json")) == []
        assert haulier.run("transfers", "cancel", "one").code == 0
        waited = haulier.run("transfers", "wait", "one", "--json")
        assert (waited.code, waited.documents[0]["outcome"]) == (1, "cancelled")
        assert ids(haulier.run("transfers", "list", "--live", "--json")) == ["two"]
        for wish in ("show", "pause", "cancel", "retry", "remove"):
            unknown = haulier.run("transfers", wish, "never")
            assert (unknown.code, "there is no transfer 'never'" in unknown.err) == (1, True), wish
    finally:
        assert stop(agent) == 0


def test_a_push_that_is_interrupted_says_that_its_transfer_goes_on(haulier: Commands) -> None:
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    (haulier.folder / "f").write_bytes(b"1")
    push = haulier.start("push", "f", "--to", "dead:f", "--id", "mine")
    wait_until(lambda: haulier.run("transfers", "show", "mine").code == 0, "it is queued")
    push.send_signal(signal.SIGINT)
    _, told = push.communicate(timeout=60)
    assert (push.returncode, b"what was queued is kept" in told) == (130, True)
    assert ids(haulier.run("transfers", "list", "--live", "--json")) == ["mine"]


def test_a_shell_completes_commands_transfers_and_remotes(haulier: Commands) -> None:
    def completed(words: str, journal: str = "") -> list[str]:
        at = str(len(words.split(" ")) - 1)
        settings = {"HAULIER_JOURNAL": journal} if journal else {}
        ran = haulier.run(
            given=None,
            _HAULIER_COMPLETE="complete_bash",
            COMP_WORDS=words.rstrip(" "),
            COMP_CWORD=at,
            **settings,
        )
        return ran.out.split()

    (haulier.folder / "f").write_bytes(b"1")
    for name, journal in (("mine-1", ()), ("mine-2", ()), ("elsewhere", ("--journal", "other.db"))):
        haulier.run("push", "f", "--to", f"here:{name}", "--no-wait", "--id", name, *journal)
    assert completed("haulier tran") == ["transfers"]
    assert completed("haulier transfers wait mine-") == ["mine-2", "mine-1"]
    assert completed("haulier transfers show --journal other.db ") == ["elsewhere"]
    assert completed("haulier transfers show e", journal="other.db") == ["elsewhere"]
    assert completed("haulier transfers show --journal none.db ") == []
    assert not (haulier.folder / "none.db").exists()
    assert completed("haulier remote test h") == ["here"]
    assert completed("haulier push f --to he") == ["here:"]


def test_a_push_takes_over_from_an_agent_that_was_killed(haulier: Commands, service: ServeProcess) -> None:
    agent = haulier.start("agent")
    first_line(agent)
    (haulier.folder / "big").write_bytes(bytes(20_000_000))
    os.kill(service.pid, signal.SIGSTOP)
    try:
        haulier.run("push", "big", "--to", "here:killed/big", "--no-wait", "--id", "big")
        wait_until(
            lambda: haulier.run("transfers", "show", "big", "--json").documents[0]["phase"] != "queued",
            "it runs",
        )
        agent.kill()
        agent.communicate()
    finally:
        os.kill(service.pid, signal.SIGCONT)
    pushed = haulier.run("push", "big", "--to", "here:killed/big", "--json")
    assert (pushed.code, ids(pushed)) == (0, ["big"])
    assert stored(haulier, "killed/") == {"killed/big": 20_000_000}


def test_the_bandwidth_of_a_running_agent_is_changed(haulier: Commands) -> None:
    (haulier.folder / "large").write_bytes(bytes(3_000_000))
    assert haulier.run("transfers", "bandwidth", "1MB").code == 3
    agent = haulier.start("agent", "--bandwidth", "1kB")
    try:
        first_line(agent)
        assert haulier.run("push", "large", "--to", "here:slow/", "--no-wait", "--id", "slow").code == 0
        assert haulier.run("transfers", "wait", "slow", "--timeout", "1").code == 3
        asked = haulier.run("transfers", "bandwidth", "50MB", "--json")
        assert (asked.code, asked.documents) == (0, [{"bandwidth": 50_000_000}])
        assert haulier.run("transfers", "wait", "slow", "--timeout", "60").code == 0
        assert haulier.run("transfers", "bandwidth", "fast").code == 2
    finally:
        assert stop(agent) == 0


def test_a_push_that_queues_nothing_has_failed_whoever_runs(haulier: Commands) -> None:
    (haulier.folder / "f").write_bytes(b"1")
    nothing = haulier.run("push", "missing", "--to", "here:left/", "--no-wait")
    assert (nothing.code, "no process runs this journal" in nothing.err) == (1, False)
    some = haulier.run("push", "missing", "f", "--to", "here:left/", "--no-wait")
    assert (some.code, "no process runs this journal" in some.err) == (1, True)
    assert haulier.run("push", "f", "--to", "here:left/", "--no-wait").code == 3


REMOVED = "was removed or replaced while it was open; put that file back if what it held is to go on, and run"


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """How a process ended by itself, and what it told people."""
    _, err = process.communicate(timeout=60)
    told = [line for line in err.decode().splitlines() if line.startswith("haulier: ")]
    assert len(told) == 1, told
    return process.returncode, told[0]


def journal_of(haulier: Commands) -> Path:
    return haulier.folder / "home" / "journal.db"


def lose_journal(haulier: Commands) -> None:
    journal_of(haulier).unlink()


def test_an_agent_whose_journal_was_removed_says_so_ends_and_leaves_the_new_one_to_a_push(
    haulier: Commands,
) -> None:
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    (haulier.folder / "f").write_bytes(b"123")
    agent = haulier.start("agent")
    first_line(agent)
    assert haulier.run("push", "f", "--to", "dead:f", "--no-wait").code == 0
    lose_journal(haulier)
    pushed = haulier.run("push", "f", "--to", "here:lost/f", "--json")
    assert pushed.code == 0, pushed.err
    code, told = ended(agent)
    assert (code, REMOVED in told) == (1, True)
    assert ids(haulier.run("transfers", "list", "--json")) == ids(pushed)
    assert stored(haulier, "lost/") == {"lost/f": 3}


def test_whoever_waits_in_a_journal_that_was_removed_is_told_so_once(haulier: Commands) -> None:
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    names = ("a", "b", "c")
    for name in names:
        (haulier.folder / name).write_bytes(b"1")
    push = haulier.start("push", *names, "--to", "dead:")
    wait_until(lambda: haulier.run("transfers", "list").out.count("Waiting, Retry") == 3, "all are queued")
    queued = ids(haulier.run("transfers", "list", "--json"))
    waiting = haulier.start("transfers", "wait", *queued)
    wait_until(lambda: has_open(waiting.pid, journal_of(haulier)), "it has the journal that is removed")
    watch = haulier.start("watch", ".", "--to", "dead:watched/")
    first_line(watch)
    lose_journal(haulier)
    for process in (push, waiting, watch):
        code, told = ended(process)
        assert (code, REMOVED in told) == (1, True)


def test_a_service_whose_journal_was_removed_serves_on_and_leaves_the_new_one_to_a_push(
    haulier: Commands, tmp_path: Path
) -> None:
    (haulier.folder / "f").write_bytes(b"123")
    home = haulier.folder / "home"
    with serving(tmp_path / "other", {"HAULIER_HOME": str(home)}) as service:
        lose_journal(haulier)
        pushed = haulier.run("push", "f", "--to", "here:served/f", "--timeout", "60")
        assert pushed.code == 0, pushed.err
        assert haulier.run("put", "f", "--url", service.url).code == 0
        assert httpx2.get(f"{service.url}/api/transfers").status_code == 503
    assert service.log.count("send.journal_replaced") == 1


def test_a_watched_folder_is_sent_when_it_is_quiet(haulier: Commands) -> None:
    folder = haulier.folder / "outbox"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "f").write_bytes(b"123")
    (folder / ".hidden").write_bytes(b"no")
    watch = haulier.start("watch", "outbox", "--to", "here:watched/")
    try:
        assert first_line(watch).startswith("haulier watch ready, journal ")
        wait_until(lambda: stored(haulier, "watched/") == {"watched/sub/f": 3}, "the file has arrived")
    finally:
        assert stop(watch) == 0
    assert [each["target"] for each in haulier.run("transfers", "list", "--json").documents] == [
        "watched/sub/f"
    ]


def test_what_haulier_keeps_itself_is_not_sent_from_a_watched_folder(haulier: Commands) -> None:
    (haulier.folder / "f.txt").write_bytes(b"123")
    (haulier.folder / "link").symlink_to(".")
    for to, journal in (("default/", ()), ("named/", ("--journal", "link/f"))):
        watch = haulier.start("watch", "link", "--to", f"here:{to}", *journal)
        try:
            first_line(watch)
            wait_until(partial(is_there, haulier, to, "f.txt"), "the file has arrived")
            later = haulier.folder / f"{to[:-1]}-later"
            later.write_bytes(b"4")
            wait_until(partial(is_there, haulier, to, later.name), "another one has, too")
        finally:
            assert stop(watch) == 0
        assert stored(haulier, to) == {f"{to}f.txt": 3, f"{to}{later.name}": 1}
        later.unlink()


def test_a_name_that_is_no_text_is_told_and_keeps_nothing_else_back(haulier: Commands) -> None:
    folder = haulier.folder / "outbox"
    for name in (b"caf\xe9", b"d\xffr/inner", b"good"):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"123")
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    pushed = haulier.run("push", *files, "--to", "here:raw/", "--json")
    assert pushed.code == 1
    for shown in ("caf\\xe9' is not UTF-8", "d\\xffr/inner' is not UTF-8"):
        assert shown in pushed.err
    assert [each["outcome"] for each in pushed.documents] == ["succeeded"]
    assert stored(haulier, "raw/") == {"raw/good": 3}

    watch = haulier.start("watch", "outbox", "--to", "here:raw-watched/")
    try:
        wait_until(lambda: stored(haulier, "raw-watched/") == {"raw-watched/good": 3}, "the file has arrived")
    finally:
        watch.send_signal(signal.SIGTERM)
        _, err = watch.communicate(timeout=60)
    assert watch.returncode == 0
    assert err.count(b"caf\\xe9' is not UTF-8") == 1


def test_remotes_are_kept_with_their_secrets_for_their_owner_alone(
    haulier: Commands, service: ServeProcess
) -> None:
    added = haulier.run(
        *("remote", "add", "here", "--type", "haulier", "--url", service.url, "--option", "capsule=default"),
        HAULIER_TOKEN="hl_very-secret",
    )
    assert added.out == "changed here\n"
    login = haulier.run("remote", "login", "here", given=b"hl_other-secret\n")
    assert login.code == 0
    home = haulier.folder / "home"
    assert "hl_other-secret" in (home / "remotes.json").read_text()
    for each in home.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    listed = haulier.run("remote", "list", "--json")
    assert listed.documents == [
        {
            "name": "here",
            "type": "haulier",
            "url": service.url,
            "options": {"capsule": "default"},
            "secrets": ["token"],
        }
    ]
    assert "secret" not in (haulier.run("remote", "list").out + login.out + login.err).replace("secrets", "")
    assert haulier.run("remote", "rm", "here").code == 0
    assert haulier.run("remote", "rm", "here").code == 2
    assert haulier.run("remote", "test", "here").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x y", "--type", "haulier", "--url", "http://127.0.0.1"), "letters, digits"),
        (("x", "--type", "ftp", "--url", "http://127.0.0.1"), "one of"),
        (("x", "--type", "haulier", "--url", "file:///x"), "https://"),
        (("x", "--type", "haulier", "--url", "http://h", "--option", "colour=red"), "capsule"),
        (("x", "--type", "haulier", "--url", "http://h", "--option", "verify=never"), "strict"),
        (("x", "--type", "haulier", "--url", "http://h", "--option", "slots=-1"), "0 (no limit)"),
        (("x", "--type", "haulier", "--url", "http://h", "--option", "slots"), "KEY=VALUE"),
        (("x", "--type", "haulier", "--url", "http://h", "--option", "digest=crc64"), "is not one of"),
        (("x", "--type", "tus", "--url", "http://h", "--option", "parallel=many"), "a number, 1 to 16"),
        (("x", "--type", "s3", "--url", "http://h"), "s3 needs the name of a bucket"),
        (("x", "--type", "onedrive", "--url", "http://h"), "onedrive needs token_command"),
        (
            ("x", "--type", "onedrive", "--url", "http://h", "--option", "login=device"),
            "login=device needs it",
        ),
    ],
)
def test_a_remote_that_cannot_be_is_refused_with_the_cure(
    haulier: Commands, arguments: tuple[str, ...], words: str
) -> None:
    refused = haulier.run("remote", "add", *arguments)
    assert refused.code == 2
    assert words in refused.err
    assert [each["name"] for each in haulier.run("remote", "list", "--json").documents] == ["here"]


def test_what_is_secret_is_neither_kept_nor_told_where_it_has_no_use(haulier: Commands) -> None:
    s3 = ("remote", "add", "bucket", "--type", "s3", "--url", "http://127.0.0.1:9", "--option", "bucket=b")
    assert haulier.run(*s3, HAULIER_TOKEN="hl_very-secret").code == 0
    assert "hl_very-secret" not in (haulier.folder / "home" / "remotes.json").read_text()
    refused = [
        haulier.run(*s3, "--token", "hl_very-secret"),
        haulier.run(*s3, "--option", "token=hl_very-secret"),
        haulier.run(*s3, "--option", "hl_very-secret"),
    ]
    assert [each.code for each in refused] == [2, 2, 2]
    assert "s3 takes access_key, secret_key" in refused[0].err
    assert "hl_very-secret" not in "".join(each.err + each.out for each in refused)
    assert haulier.run("remote", "rm", "bucket").code == 0


def test_a_secret_in_the_address_of_a_remote_is_used_and_never_shown(
    haulier: Commands, service: ServeProcess
) -> None:
    add = ("remote", "add", "asked", "--type", "tus", "--url")
    address = f"{service.url}/tus/?token=very-secret"
    added = [haulier.run(*add, address), haulier.run(*add, address, "--json")]
    listed = [haulier.run("remote", "list"), haulier.run("remote", "list", "--json")]
    assert [each.code for each in (*added, *listed)] == [0] * 4
    (shown,) = (each["url"] for each in listed[1].documents if each["name"] == "asked")
    assert shown == f"{service.url}/tus/?***"
    (haulier.folder / "f").write_bytes(b"1")
    pushed = haulier.run("push", "f", "--to", "asked:f", "--json")
    assert pushed.code == 0, pushed.err
    asked = haulier.run("remote", "test", "asked")
    refused = [
        haulier.run("remote", "add", "query", "--type", "haulier", "--url", address),
        haulier.run(*add, address.replace("http://", "http://me:very-secret@")),
    ]
    assert [each.code for each in refused] == [2, 2]
    told = [*added, *listed, pushed, asked, *refused, haulier.run("transfers", "list", "--json")]
    assert "very-secret" not in "".join(each.out + each.err for each in told)


def test_a_remote_without_secrets_has_no_login(haulier: Commands) -> None:
    options = ("--type", "onedrive", "--url", "https://graph.example/v1.0", "--option", "token_command=true")
    assert haulier.run("remote", "add", "drive", *options).code == 0
    login = haulier.run("remote", "login", "drive")
    assert login.code == 2
    assert "nothing to enter for onedrive" in login.err


def test_a_remote_can_be_asked_whether_it_is_there(haulier: Commands) -> None:
    asked = haulier.run("remote", "test", "here")
    assert (asked.code, asked.out) == (0, "here answers, and takes the credentials\n")
    haulier.run("remote", "add", "dead", "--type", "haulier", "--url", "http://127.0.0.1:9")
    dead = haulier.run("remote", "test", "dead")
    assert dead.code == 3


def test_why_a_push_was_rejected_is_told_once(haulier: Commands, service: ServeProcess) -> None:
    (haulier.folder / "f").write_bytes(b"1")
    nowhere = ("--type", "haulier", "--url", service.url, "--option", "capsule=nowhere")
    haulier.run("remote", "add", "nowhere", *nowhere)
    pushed = haulier.run("push", "f", "--to", "nowhere:f")
    assert pushed.code == 4
    assert (pushed.out + pushed.err).count("capsule-not-found") == 1
    assert "Rejected" in pushed.out
