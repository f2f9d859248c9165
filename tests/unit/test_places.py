"""What is set for a remote, as a manager that has run for long follows it."""

from pathlib import Path

from haulier.adapters.clock import SystemClock
from haulier.bootstrap import transfers_of
from haulier.config import Settings
from haulier.core.outgoing import VerifyMode
from haulier.places import RemotePlaces
from haulier.remotes.catalogue import RemoteSettings


def there(**options: str) -> RemoteSettings:
    return RemoteSettings(name="there", type="tus", url="http://127.0.0.1:9/files", options=options)


def test_slots_and_verification_of_a_remote_are_followed_while_a_manager_runs(tmp_path: Path) -> None:
    places = RemotePlaces(tmp_path)
    limits = places.limits()
    assert (limits.slots.of_line("there"), limits.policies.get("there")) == (4, None)
    places.put(there(slots="1", verify="off"))
    policy = limits.policies.get("there")
    assert policy is not None
    assert (limits.slots.of_line("there"), policy.mode) == (1, VerifyMode.OFF)
    assert (list(limits.policies), len(limits.slots.lines)) == (["there"], 1)
    places.put(there(slots="2"))
    assert (limits.slots.of_line("there"), limits.policies.get("there")) == (2, None)
    assert limits.slots.of_line("elsewhere") == 4


def test_remotes_that_cannot_be_read_stop_no_manager(tmp_path: Path) -> None:
    places = RemotePlaces(tmp_path)
    places.put(there(slots="1"))
    places.path.write_text(places.path.read_text(encoding="utf-8").replace('"1"', '"one"'), encoding="utf-8")
    limits = places.limits()
    assert limits.slots.of_line("there") == 4
    places.path.write_text("nothing of ours", encoding="utf-8")
    assert (limits.slots.of_line("there"), limits.policies.get("there")) == (4, None)


def test_a_service_sends_by_what_is_set_for_its_remotes_and_gives_up_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    places = RemotePlaces(tmp_path)
    places.put(there(slots="3", verify="size"))
    settings = Settings(home=tmp_path, transfer_give_up_s=60.0)
    limits = transfers_of(settings, places, SystemClock()).limits
    policy = limits.policies.get("there")
    assert policy is not None
    assert (limits.slots.of_line("there"), policy.mode, limits.give_up_s) == (3, VerifyMode.SIZE, 60.0)
