"""What forms may bring, and under which names it is stored."""

import pytest

from haulier.core.errors import NameNotAccepted
from haulier.core.ingestion import EXTENSIONS, IngestionRules, stored_name


@pytest.mark.parametrize("name", ["a.json", "A.JSON", "photo.final.Jpg", "x.heif"])
def test_known_extensions_are_taken_whatever_their_case(name: str) -> None:
    IngestionRules().require_name(name)


@pytest.mark.parametrize(("name", "found"), [("a.exe", ".exe"), ("json", ""), (".json", "")])
def test_other_names_are_refused_by_what_they_end_in(name: str, found: str) -> None:
    with pytest.raises(NameNotAccepted) as caught:
        IngestionRules().require_name(name)
    refusal = caught.value
    assert (refusal.filename, refusal.accepted, refusal.provided) == (name, EXTENSIONS, found)


def test_people_see_the_uuid_of_a_stored_file() -> None:
    name = "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77"
    assert stored_name(f"ingestion-{name}") == name
    assert stored_name(name) == name
