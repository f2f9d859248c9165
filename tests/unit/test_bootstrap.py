"""What a start makes of its settings, and what the doctor says about them."""

from pathlib import Path

from haulier.bootstrap import check_service, upload_limits
from haulier.config import Settings
from haulier.core.digest import DigestName


def verdicts(settings: Settings) -> dict[str, bool]:
    return {check.name: check.ok for check in check_service(settings)}


def test_every_setting_of_the_engine_reaches_it() -> None:
    limits = upload_limits(
        Settings(
            chunk_size=300_000,
            session_ttl_s=5,
            digest=DigestName.BLAKE3,
            max_active_sessions=6,
            max_upload_bytes=7,
            durability="power",
        )
    )
    assert (limits.chunk_size, limits.ttl_s, limits.digest) == (300_000, 5, DigestName.BLAKE3)
    assert (limits.sessions.max_live, limits.sessions.max_size, limits.sessions.durable) == (6, 7, True)


def test_the_doctor_looks_at_the_directory_of_the_bytes_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    wrong = Settings(data_dir=tmp_path / "data", storage_url=f"file://{tmp_path / 'file'}", port=0)
    assert [name for name, ok in verdicts(wrong).items() if not ok] == ["storage directory"]
    assert all(verdicts(Settings(data_dir=tmp_path / "data", port=0)).values())
