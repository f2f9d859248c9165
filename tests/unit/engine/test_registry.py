"""Active items by key: all keys or none, and a successor that keeps what it took."""

import pytest

from haulier.engine.registry import Registration, Registry


def register(of: Registry[str], item: str, *keys: object) -> Registration[str]:
    registration = of.register(item, *keys)
    assert registration is not None
    return registration


def test_an_item_is_found_by_each_of_its_keys() -> None:
    of: Registry[str] = Registry()
    register(of, "one", ("token", 7), ("peer", "ann", 3))
    assert of.find(("token", 7)) == of.find(("peer", "ann", 3)) == "one"
    assert of.find(("token", 8)) is None
    assert list(of) == ["one"]
    assert len(of) == 1


def test_a_key_that_is_taken_leaves_the_others_free() -> None:
    of: Registry[str] = Registry()
    register(of, "one", ("token", 7))
    assert of.register("two", ("token", 8), ("token", 7)) is None
    assert of.find(("token", 8)) is None
    assert of.find(("token", 7)) == "one"


def test_ending_twice_leaves_the_next_holder_alone() -> None:
    of: Registry[str] = Registry()
    first = register(of, "one", "key")
    first.end()
    register(of, "two", "key")
    first.end()
    assert of.find("key") == "two"


def test_a_successor_takes_all_keys_of_those_it_replaces() -> None:
    of: Registry[str] = Registry()
    broken = register(of, "broken", "file", "old token")
    register(of, "sound", "other file")
    assert of.register("new", "file", "new token", replaces=lambda item: item == "broken") is not None
    assert not broken.active
    assert of.find("old token") is None
    assert of.find("file") == of.find("new token") == "new"
    broken.end()
    assert of.find("file") == "new"


def test_one_holder_that_stays_saves_the_others() -> None:
    of: Registry[str] = Registry()
    register(of, "broken", "a")
    register(of, "sound", "b")
    assert of.register("new", "a", "b", replaces=lambda item: item == "broken") is None
    assert of.find("a") == "broken"
    assert of.find("b") == "sound"


def test_an_item_without_a_key_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        Registry[str]().register("nobody")
