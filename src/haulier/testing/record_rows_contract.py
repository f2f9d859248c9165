"""What every `RecordStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

import asyncio
from typing import Any

import pytest

from haulier.core.errors import RecordNotFound
from haulier.core.finalisation import Finalised
from haulier.core.record import AssetKind, RecordId, RecordStatus
from haulier.core.values import replace
from haulier.ports import RecordQuery
from haulier.testing.rows import MORE, SHA_256, T0, Database, add_record, asset, record, see_record

A = RecordId("a")
NONE = RecordId("none")


async def listed(database: Database, query: RecordQuery) -> list[str]:
    """Return the ids of a page, and `MORE` where there is a next one, which begins behind its last row."""
    page = await database.read(lambda tx: tx.records.list(query))
    if page.next is None:
        return [row.id for row in page.items]
    assert page.next == (page.items[-1].created_at, page.items[-1].id)
    return [*(row.id for row in page.items), MORE]


class RecordLifeContract:
    """From begin to erasure."""

    async def test_a_record_is_loaded_unchanged(self, database: Database) -> None:
        """Every field comes back as it was."""
        row = record(
            "a",
            filename="Größe 😀.txt",
            path="x/ÿ/Größe 😀.txt",
            size=None,
            metadata={"größe": "5", "": '"\\'},
        )
        await add_record(database, row)
        assert await see_record(database, "a") == row
        assert await see_record(database, "none") is None

    async def test_a_record_that_comes_with_its_original_is_loaded_unchanged(
        self, database: Database
    ) -> None:
        """Nothing brings the original later: the record was never seen without."""
        original = replace(asset("one", size=7), width=3, height=4)
        whole, more = record("a", size=7), record("b", size=5)
        rows = [
            whole.complete(original, now=T0 + 2),
            more.complete(asset("two"), now=T0 + 2, more=True),
        ]
        for row in rows:
            await add_record(database, row)
        assert [await see_record(database, "a"), await see_record(database, "b")] == rows
        assert rows[0].assets == (original,)
        assert await database.read(lambda tx: tx.records.blob_keys({"one", "two", "three"})) == {"one", "two"}
        assert not await database.write(lambda tx: tx.records.add_asset(A, asset("again")))

    async def test_records_that_come_together_are_loaded_as_if_each_came_alone(
        self, database: Database
    ) -> None:
        """With and without assets."""
        rows = [record("a"), record("b").complete(asset("one"), now=T0), record("c", owner="user:x")]
        rows += [
            record(f"n{number}", filename=f"name {number}").complete(asset(f"blob {number}"), now=T0)
            for number in range(20)
        ]
        await database.write(lambda tx: tx.records.insert(*rows))
        assert [await see_record(database, row.id) for row in rows] == rows
        assert await listed(database, RecordQuery(name="NAME 17")) == ["n17"]

    async def test_words_that_no_row_can_have_find_none(self, database: Database) -> None:
        """Strangers may ask for any text."""
        await add_record(database, record("a", path="a/b"))
        assert await see_record(database, "a\0") is None
        for strange in (RecordQuery(name="\0"), RecordQuery(path_prefix="a\0"), RecordQuery(owner="local\0")):
            assert await listed(database, strange) == []

    async def test_a_record_completes_with_its_original_once(self, database: Database) -> None:
        """It takes size and digest from it."""
        row = await add_record(database, record("a", size=None))
        original = replace(asset("one", size=7), width=3, height=4)
        assert await database.write(lambda tx: tx.records.complete(A, original, now=T0 + 2))
        assert await see_record(database, "a") == row.complete(original, now=T0 + 2)
        assert not await database.write(lambda tx: tx.records.complete(A, asset("two"), now=T0))
        assert not await database.write(lambda tx: tx.records.complete(NONE, asset("two"), now=T0))
        assert await see_record(database, "a") == row.complete(original, now=T0 + 2)

    async def test_an_asset_without_digest_is_kept(self, database: Database) -> None:
        """Uploads may ask for none."""
        await add_record(database, record("a"))
        plain = replace(asset("one"), digest=None)
        await database.write(lambda tx: tx.records.complete(A, plain, now=T0))
        row = await see_record(database, "a")
        assert row is not None
        assert (row.digest, row.assets) == (None, (plain,))

    async def test_a_record_has_one_asset_of_a_kind(self, database: Database) -> None:
        """In the order of their kinds, whenever they came."""
        await add_record(database, record("a"))
        kinds = [AssetKind.PLACEHOLDER, AssetKind.DISPLAY, AssetKind.DISPLAY]
        added = [
            await database.write(
                lambda tx, n=n, kind=kind: tx.records.add_asset(A, asset(f"b{n}", kind))  # type: ignore[misc]  # of a lambda with defaults
            )
            for n, kind in enumerate(kinds)
        ]
        assert added == [True, True, False]
        await database.write(lambda tx: tx.records.complete(A, asset("one"), now=T0))
        row = await see_record(database, "a")
        assert row is not None
        assert [(it.kind.value, it.blob_key) for it in row.assets] == [
            ("original", "one"),
            ("display", "b1"),
            ("placeholder", "b0"),
        ]
        assert row.digest == SHA_256
        assert not await database.write(lambda tx: tx.records.add_asset(NONE, asset("b9")))

    async def test_an_upload_without_result_ends_its_record(self, database: Database) -> None:
        """Once."""
        row = await add_record(database, record("a"))

        async def end(status: RecordStatus) -> bool:
            return await database.write(lambda tx: tx.records.end(A, status, error="why", now=T0 + 2))

        assert await end(RecordStatus.EXPIRED)
        assert not await end(RecordStatus.FAILED)
        assert await see_record(database, "a") == row.end(RecordStatus.EXPIRED, error="why", now=T0 + 2)
        assert not await database.write(lambda tx: tx.records.complete(A, asset("one"), now=T0))

    async def test_only_what_has_ended_is_deleted_once(self, database: Database) -> None:
        """Its status stays."""
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"))

        async def delete(name: str) -> bool:
            return await database.write(
                lambda tx: tx.records.delete(RecordId(name), now=T0 + 5, keep_assets=False)
            )

        assert [await delete(name) for name in ("a", "a", "b", "none")] == [True, False, False, False]
        row = await see_record(database, "a")
        assert row is not None
        assert (row.status, row.deleted_at) == (RecordStatus.COMPLETED, T0 + 5)

    async def test_a_deleted_record_is_restored_while_its_assets_are_there(self, database: Database) -> None:
        """Afterwards there is nothing to come back to."""
        await add_record(database, record("a"), original="one")
        before = await see_record(database, "a")
        assert not await database.write(lambda tx: tx.records.restore(A))
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=False))
        assert await database.write(lambda tx: tx.records.restore(A))
        assert await see_record(database, "a") == before
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=False))
        assert await database.write(lambda tx: tx.records.drop_assets(A)) == (asset("one"),)
        assert not await database.write(lambda tx: tx.records.restore(A))
        assert not await database.write(lambda tx: tx.records.restore(NONE))

    async def test_a_record_that_never_had_an_original_is_restored(self, database: Database) -> None:
        """It misses nothing."""
        await add_record(database, record("a"))
        await database.write(lambda tx: tx.records.end(A, RecordStatus.FAILED, error=None, now=T0))
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=False))
        assert await database.write(lambda tx: tx.records.restore(A))

    async def test_trash_is_what_was_deleted_long_ago_and_is_not_kept(self, database: Database) -> None:
        """The longest deleted first; without assets there is nothing to remove."""
        for number, name in enumerate("abcd"):
            await add_record(database, record(name), original=name)
            await database.write(
                lambda tx, name=name, number=number: tx.records.delete(  # type: ignore[misc]  # of a lambda with defaults
                    RecordId(name), now=T0 + 10 - number, keep_assets=name == "b"
                )
            )
        await add_record(database, record("e"), original="e")
        await database.write(lambda tx: tx.records.drop_assets(RecordId("d")))

        async def trash(before: float, limit: int) -> list[str]:
            rows = await database.read(lambda tx: tx.records.deleted_before(before, limit=limit))
            return [row.id for row in rows]

        assert await trash(T0 + 8, 9) == []
        assert await trash(T0 + 8.5, 9) == ["c"]
        assert await trash(T0 + 100, 9) == ["c", "a"]
        assert await trash(T0 + 100, 1) == ["c"]

    async def test_assets_are_dropped_only_in_the_trash(self, database: Database) -> None:
        """Not those of a record that is there, was restored, or keeps them."""
        await add_record(database, record("a"), original="one")
        assert list(await database.write(lambda tx: tx.records.drop_assets(A))) == []
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=True))
        assert list(await database.write(lambda tx: tx.records.drop_assets(A))) == []
        await database.write(lambda tx: tx.records.restore(A))
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=False))
        assert list(await database.write(lambda tx: tx.records.drop_assets(A, deleted_before=T0))) == []
        assert list(await database.write(lambda tx: tx.records.drop_assets(A))) == [asset("one")]
        assert list(await database.write(lambda tx: tx.records.drop_assets(NONE))) == []

    async def test_what_was_erased_takes_no_asset_any_more(self, database: Database) -> None:
        """It would come back as a record without its original; one in the trash has all to come back with."""
        picture = asset("two", AssetKind.DISPLAY)
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"), original="three")
        for name in (A, RecordId("b")):
            await database.write(
                lambda tx, name=name: tx.records.delete(name, now=T0, keep_assets=False)  # type: ignore[misc]  # of a lambda with defaults
            )
        await database.write(lambda tx: tx.records.drop_assets(A))
        assert not await database.write(lambda tx: tx.records.add_asset(A, picture))
        assert await database.write(lambda tx: tx.records.add_asset(RecordId("b"), picture))
        row = await see_record(database, "a")
        assert row is not None
        assert row.erased
        assert not await database.write(lambda tx: tx.records.restore(A))

    async def test_assets_that_were_kept_can_be_given_up(self, database: Database) -> None:
        """By deleting the record once more, without them; its time in the trash begins then."""
        await add_record(database, record("a"), original="one")

        async def delete(now: float, *, keep_assets: bool) -> bool:
            return await database.write(lambda tx: tx.records.delete(A, now=now, keep_assets=keep_assets))

        assert await delete(T0 + 1, keep_assets=True)
        assert not await delete(T0 + 2, keep_assets=True)
        assert list(await database.write(lambda tx: tx.records.drop_assets(A))) == []
        assert not await delete(T0 + 3, keep_assets=False)
        assert not await delete(T0 + 4, keep_assets=False)
        found = await see_record(database, "a")
        assert found is not None
        assert found.deleted_at == T0 + 3
        assert list(await database.write(lambda tx: tx.records.drop_assets(A))) == [asset("one")]

    async def test_an_erased_record_leaves_nothing(self, database: Database) -> None:
        """Erasing it again does nothing."""
        await add_record(database, record("a"), original="one")
        assert await database.read(lambda tx: tx.records.blob_keys(["one", "two"])) == {"one"}
        await database.write(lambda tx: tx.records.erase(A))
        await database.write(lambda tx: tx.records.erase(A))
        assert await see_record(database, "a") is None
        assert await database.read(lambda tx: tx.records.blob_keys(["one"])) == set()
        await add_record(database, record("a"), original="one")


class FinalisedContract:
    """What was made under idempotency keys."""

    async def test_what_was_made_under_a_key_is_remembered_once(self, database: Database) -> None:
        """By capsule, owner and key; and every field comes back as it was."""
        first = finalised()
        others = [replace(first, capsule="other"), replace(first, owner="user:x"), replace(first, key="k2")]
        for made in (first, *others):
            assert await note(database, made)
        assert not await note(database, replace(first, request_hash="another", records=()))
        for made in (first, *others):
            assert await recall(database, made) == made
        assert await recall(database, replace(first, key="k3")) is None

    async def test_keys_are_forgotten_by_their_age(self, database: Database) -> None:
        """And are free then."""
        old, young = finalised(), replace(finalised(), key="young", created_at=T0 + 1)
        for made in (old, young):
            await note(database, made)
        assert await database.write(lambda tx: tx.finalisations.forget(before=T0)) == 0
        assert await database.write(lambda tx: tx.finalisations.forget(before=T0 + 1)) == 1
        assert [await recall(database, made) for made in (old, young)] == [None, young]
        assert await note(database, old)

    async def test_a_rollback_frees_its_key(self, database: Database) -> None:
        """Nothing was made under it."""

        async def refuse(tx: Any) -> None:
            await tx.finalisations.note(finalised())
            raise RecordNotFound("r")

        with pytest.raises(RecordNotFound):
            await database.write(refuse)
        assert await note(database, finalised())

    async def test_of_two_with_one_key_the_second_finds_the_first(self, database: Database) -> None:
        """Also when both begin before either has ended."""

        async def make(name: str) -> tuple[RecordId, ...]:
            made = replace(finalised(), records=(RecordId(name),))

            async def work(tx: Any) -> tuple[RecordId, ...]:
                if await tx.finalisations.note(made):
                    return made.records
                earlier = await tx.finalisations.find(made.capsule, made.owner, made.key)
                assert earlier is not None
                return tuple(earlier.records)

            return await database.write(work)

        results = await asyncio.gather(*(make(f"r{number}") for number in range(5)))
        assert len(set(results)) == 1


def finalised() -> Finalised:
    """Return what was made under the key `k`."""
    return Finalised(
        capsule="default",
        owner="local",
        key="k",
        request_hash="hash",
        records=(RecordId("r2"), RecordId("r1")),
        created_at=T0,
    )


async def note(database: Database, made: Finalised) -> bool:
    """Remember it in a transaction of its own."""
    return await database.write(lambda tx: tx.finalisations.note(made))


async def recall(database: Database, made: Finalised) -> Finalised | None:
    """Return what is remembered under its key."""
    return await database.read(lambda tx: tx.finalisations.find(made.capsule, made.owner, made.key))


class RecordListContract:
    """Pages and filters."""

    async def test_a_page_is_newest_first_with_one_row_more(self, database: Database) -> None:
        """Rows of the same moment are ordered by their ids."""
        for name, begun_at in (("a", T0), ("c", T0 + 1), ("b", T0 + 1), ("d", T0 - 1)):
            await add_record(database, record(name, begun_at=begun_at))
        assert await listed(database, RecordQuery()) == ["c", "b", "a", "d"]
        assert await listed(database, RecordQuery(limit=2)) == ["c", "b", MORE]
        assert await listed(database, RecordQuery(limit=2, after=(T0 + 1, "b"))) == ["a", "d"]
        assert await listed(database, RecordQuery(limit=2, after=(T0 + 1, "c"))) == ["b", "a", MORE]
        assert await listed(database, RecordQuery(after=(T0 - 1, "d"))) == []

    async def test_pages_are_stable_while_rows_are_added(self, database: Database) -> None:
        """Every row that was there at first is seen exactly once."""
        for number in range(20):
            await add_record(database, record(f"r{number:02}", begun_at=T0 + number // 3))
        seen: list[str] = []
        query = RecordQuery(limit=3)
        while True:
            page = await database.read(lambda tx, query=query: tx.records.list(query))  # type: ignore[misc]  # of a lambda with defaults
            seen += [row.id for row in page.items]
            if page.next is None:
                break
            query = replace(query, after=page.next)
            await add_record(database, record(f"new{len(seen)}", begun_at=T0 + 100 + len(seen)))
        assert seen == [f"r{number:02}" for number in reversed(range(20))]

    async def test_a_list_shows_records_with_their_assets(self, database: Database) -> None:
        """As loading them does."""
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"))
        page = await database.read(lambda tx: tx.records.list(RecordQuery()))
        assert list(page.items) == [await see_record(database, "b"), await see_record(database, "a")]

    async def test_owner_capsule_and_status_filter(self, database: Database) -> None:
        """All given ones must hold; any of several statuses will do."""
        await add_record(database, record("a", owner="user:x"))
        await add_record(database, record("b", capsule="other"))
        await add_record(database, record("c"), original="one")
        await add_record(database, record("d", owner="user:x", capsule="other"), original="two")
        uploading, completed = RecordStatus.UPLOADING, RecordStatus.COMPLETED
        assert await listed(database, RecordQuery(owner="user:x")) == ["d", "a"]
        assert await listed(database, RecordQuery(capsule="other")) == ["d", "b"]
        assert await listed(database, RecordQuery(statuses=frozenset({uploading}))) == ["b", "a"]
        assert await listed(database, RecordQuery(statuses=frozenset(RecordStatus))) == ["d", "c", "b", "a"]
        both = frozenset({completed, RecordStatus.FAILED})
        assert await listed(database, RecordQuery(owner="user:x", capsule="other", statuses=both)) == ["d"]
        assert await listed(database, RecordQuery(owner="nobody")) == []
        assert await listed(database, RecordQuery(capsule="nowhere")) == []

    async def test_ids_find_these_and_no_others(self, database: Database) -> None:
        """Newest first, beside all other filters; an id that no row has, or can have, finds none."""
        for number, name in enumerate("abcd"):
            owner = "user:x" if name == "b" else "local"
            await add_record(database, record(name, owner=owner, begun_at=T0 + number), original=name)
        await database.write(lambda tx: tx.records.delete(RecordId("d"), now=T0 + 9, keep_assets=False))

        async def find(*names: str, **others: Any) -> list[str]:
            return await listed(database, RecordQuery(ids=frozenset(map(RecordId, names)), **others))

        assert await find("a", "b", "d", "none", "a\0") == ["b", "a"]
        assert await find("a\0") == []
        assert await find("a", "b", "c", limit=2) == ["c", "b", MORE]
        assert await find("a", "b", "c", limit=2, after=(T0 + 1, "b")) == ["a"]
        assert await find("a", "b", owner="user:x") == ["b"]
        assert await find("a", "b", visible_to="user:x") == ["b"]
        assert await find("a", "b", visible_to="user:y") == []
        assert await find("a", "b", capsule="other") == []
        assert await find("a", "b", name="nowhere") == []
        assert await find("a", "b", statuses=frozenset({RecordStatus.COMPLETED})) == ["b", "a"]
        assert await find("a", "d", deleted=True) == ["d"]

    async def test_a_part_of_the_name_is_found_whatever_its_case(self, database: Database) -> None:
        """In any script; composed or not; and no character is a wildcard."""
        names = ["GRÖSSE.txt", "große.txt", "Gro\u0308sse.TXT", "100%_\\.bin", "ΣΑΣ", "100-.bin"]
        for number, name in enumerate(names):
            await add_record(database, record(f"r{number}", filename=name))

        async def find(part: str) -> list[str]:
            return await listed(database, RecordQuery(name=part))

        assert await find("größe") == ["r2", "r0"]
        assert await find("SSE.t") == ["r2", "r1", "r0"]
        assert await find("σας") == ["r4"]
        assert await find("%") == ["r3"]
        assert await find("0%_\\.") == ["r3"]
        assert await find("_") == ["r3"]
        assert await find("o") == ["r1"]
        assert await find("") == ["r5", "r4", "r3", "r2", "r1", "r0"]

    async def test_a_path_is_found_by_its_beginning(self, database: Database) -> None:
        """Case counts; no prefix means all, also those without a path."""
        paths = ["a/b", "a/b/c", "A/b", "a/\u00ff", "a0", None, "a/b\U0010ffff", "\ud7ff/x", "\ue000/x"]
        for number, path in enumerate(paths):
            await add_record(database, record(f"r{number}", path=path))

        async def find(prefix: str) -> list[str]:
            return await listed(database, RecordQuery(path_prefix=prefix))

        assert await find("a/") == ["r6", "r3", "r1", "r0"]
        assert await find("a/b") == ["r6", "r1", "r0"]
        assert await find("a/b\U0010ffff") == ["r6"]
        assert await find("\ud7ff") == ["r7"]
        assert await find("\U0010ffff") == []
        assert await find("%") == []
        assert len(await find("")) == 9

    async def test_dates_are_half_open(self, database: Database) -> None:
        """From `since` on, before `until`."""
        for number in range(4):
            await add_record(database, record(f"r{number}", begun_at=T0 + number))
        assert await listed(database, RecordQuery(since=T0 + 1, until=T0 + 3)) == ["r2", "r1"]
        assert await listed(database, RecordQuery(since=T0 + 3)) == ["r3"]
        assert await listed(database, RecordQuery(until=T0)) == []

    async def test_a_kind_is_one_that_the_record_has(self, database: Database) -> None:
        """Whatever else it has."""
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"))
        await database.write(
            lambda tx: tx.records.add_asset(RecordId("b"), asset("two", AssetKind.THUMBNAIL))
        )
        assert await listed(database, RecordQuery(kind="original")) == ["a"]
        assert await listed(database, RecordQuery(kind="thumbnail")) == ["b"]
        assert await listed(database, RecordQuery(kind="display")) == []

    async def test_deleted_records_are_in_a_list_of_their_own(self, database: Database) -> None:
        """Until they are restored."""
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"))
        await database.write(lambda tx: tx.records.delete(A, now=T0, keep_assets=False))
        assert await listed(database, RecordQuery()) == ["b"]
        assert await listed(database, RecordQuery(deleted=True)) == ["a"]
        await database.write(lambda tx: tx.records.restore(A))
        assert await listed(database, RecordQuery()) == ["b", "a"]

    async def test_what_cannot_be_restored_is_in_no_list(self, database: Database) -> None:
        """Its bytes are gone; what never had any can come back."""
        await add_record(database, record("a"), original="one")
        await add_record(database, record("b"))
        await database.write(
            lambda tx: tx.records.end(RecordId("b"), RecordStatus.CANCELLED, error=None, now=T0)
        )
        for name in (A, RecordId("b")):
            await database.write(
                lambda tx, name=name: tx.records.delete(name, now=T0, keep_assets=False)  # type: ignore[misc]  # of a lambda with defaults
            )
        await database.write(lambda tx: tx.records.drop_assets(A))
        assert await listed(database, RecordQuery()) == []
        assert await listed(database, RecordQuery(deleted=True)) == ["b"]


class DoomedBlobsContract:
    """Bytes that are still to be removed."""

    async def test_doomed_blobs_are_listed_in_pages_until_they_are_gone(self, database: Database) -> None:
        """In the order of their keys, each once however often it was noted."""
        for keys in (["b", "c"], ["a", "b"], []):
            await database.write(lambda tx, keys=keys: tx.doomed_blobs.add(keys))  # type: ignore[misc]
        assert await doomed(database, limit=2) == ["a", "b"]
        assert await doomed(database, after="b") == ["c"]
        assert await database.read(lambda tx: tx.doomed_blobs.named(["a", "x", "c"])) == {"a", "c"}
        await database.write(lambda tx: tx.doomed_blobs.remove(["a", "c", "never noted"]))
        assert await doomed(database) == ["b"]

    async def test_a_rollback_dooms_nothing(self, database: Database) -> None:
        """What named the bytes is still there."""

        async def work(tx: Any) -> None:
            await tx.doomed_blobs.add(["a"])
            raise RecordNotFound("none")

        with pytest.raises(RecordNotFound):
            await database.write(work)
        assert await doomed(database) == []


async def doomed(database: Database, *, after: str = "", limit: int = 10) -> list[str]:
    """Return a page of the keys."""
    return list(await database.read(lambda tx: tx.doomed_blobs.list(after=after, limit=limit)))


class StorageMarkContract:
    """Where the bytes are."""

    async def test_the_first_storage_that_is_noted_stays(self, database: Database) -> None:
        """Whoever comes later, or at the same time, is told which one that is."""
        assert await database.read(lambda tx: tx.storage.noted()) is None
        told = await asyncio.gather(
            *(database.write(lambda tx, it=name: tx.storage.note(it)) for name in ("a", "b", "c", "d"))  # type: ignore[misc]
        )
        assert set(told) == {await database.read(lambda tx: tx.storage.noted())}
        assert await database.write(lambda tx: tx.storage.note("e")) == told[0]

    async def test_a_rollback_notes_no_storage(self, database: Database) -> None:
        """Another one may be noted then."""

        async def work(tx: Any) -> None:
            await tx.storage.note("a")
            raise RecordNotFound("none")

        with pytest.raises(RecordNotFound):
            await database.write(work)
        assert await database.write(lambda tx: tx.storage.note("b")) == "b"


class RecordRowsContract(
    RecordLifeContract, FinalisedContract, RecordListContract, DoomedBlobsContract, StorageMarkContract
):
    """All of it."""
