"""What every `ShareIndex` must do."""

import os
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from haulier.ports import SharedFile, ShareIndex


def shared(path: str, size: int = 1) -> SharedFile:
    """Return a file of the share that the path begins with."""
    share, _, local = path.partition("\\")
    return SharedFile(share=share, path=path, local=local.replace("\\", "/"), size=size)


SONG = shared("Music\\Band\\01 A Song.mp3", 5)
OTHER = shared("Music\\Band\\02 Other-Song.mp3", 6)
TOP = shared("Music\\cover.jpg", 7)
BANDS = shared("Music\\Bands\\song.txt", 8)
ODD = SharedFile(share="Music", path="Music\\f%FCr.mp3", local=os.fsdecode(b"f\xfcr.mp3"), size=9)
ALL = [OTHER, SONG, TOP, BANDS, ODD]


class ShareIndexContract(ABC):
    """Subclass it and give `index`."""

    @abstractmethod
    def index(self) -> AbstractAsyncContextManager[ShareIndex]:
        """Return an empty index, open."""

    async def test_a_file_is_found_by_exactly_its_path(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert await index.find(SONG.path) == SONG
            assert await index.find(ODD.path) == ODD
            assert await index.find("Music\\Band") is None
            assert await index.find(SONG.path.lower()) is None

    async def test_files_come_in_the_order_of_their_folders(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert await index.all() == [TOP, ODD, SONG, OTHER, BANDS]

    async def test_a_folder_has_what_is_below_it_and_no_neighbour(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert await index.below("Music\\Band") == [SONG, OTHER]
            assert await index.below("Music") == [TOP, ODD, SONG, OTHER, BANDS]
            assert await index.below("Mus") == []

    async def test_a_scan_takes_the_place_of_the_one_before(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            await index.replace([TOP])
            assert await index.all() == [TOP]
            assert await index.search(["song"], [], [], 10) == []
            assert await index.search(["cover"], [], [], 10) == [TOP]

    async def test_all_words_must_be_in_a_path(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert set(await index.search(["song"], [], [], 10)) == {SONG, OTHER, BANDS}
            assert await index.search(["song", "other"], [], [], 10) == [OTHER]
            assert await index.search(["son"], [], [], 10) == []
            assert set(await index.search(["band", "mp3"], [], [], 10)) == {SONG, OTHER}

    async def test_no_unwanted_word_may_be_in_a_path(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert set(await index.search(["song"], ["other", "nothing"], [], 10)) == {SONG, BANDS}
            assert await index.search(["song"], ["other", "a", "bands"], [], 10) == []

    async def test_an_excluded_phrase_hides_a_file(self) -> None:
        async with self.index() as index:
            await index.replace(ALL)
            assert set(await index.search(["song"], [], ["a song", "zzz"], 10)) == {OTHER, BANDS}

    async def test_as_many_are_found_as_are_wanted(self) -> None:
        async with self.index() as index:
            await index.replace([shared(f"Music\\{number:03} same.mp3") for number in range(50)])
            assert len(await index.search(["same"], [], [], 20)) == 20
            assert len(await index.search(["same"], [], ["000 same"], 20)) == 20

    async def test_words_that_are_operators_elsewhere_are_words_here(self) -> None:
        async with self.index() as index:
            file = shared("Music\\not near and or.mp3")
            await index.replace([file, SONG])
            assert await index.search(["not", "near", "and", "or"], [], [], 10) == [file]
