"""Settings: their layers, and how bad ones are told."""

import inspect
from pathlib import Path

import pytest

from haulier.cli.serve import serve
from haulier.config import (
    Settings,
    load_settings,
    require_closed,
    settings_from_text,
)
from haulier.core.digest import DigestName
from haulier.core.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):  # noqa: TID251 - the fixture is about the environment
        if name.startswith("HAULIER_"):
            monkeypatch.delenv(name)


def refusal(flags: dict[str, object] | None = None, *, config: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags, config=config)
    return caught.value


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.root == Path(".storage").resolve()
    assert settings.database == settings.database_file == settings.root / "haulier.db"
    assert settings.storage_dir == settings.root
    assert settings.digest is DigestName.SHA_256
    assert (settings.durability, settings.log) == ("process", "console")
    assert settings.session_ttl_s == 86_400
    assert settings.max_upload_bytes == 5 * 1024**4
    assert settings.min_free_bytes == 100 * 1024**2
    assert settings.chunk_size == 8 * 1024**2
    assert settings.retention_s == 30 * 86_400


def test_a_flag_beats_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "haulier.toml"
    file.write_text("port = 1\nworkers = 1\nchunk_size = 262144\n")
    assert load_settings(config=file).port == 1
    monkeypatch.setenv("HAULIER_PORT", "2")
    assert load_settings(config=file).port == 2
    assert load_settings({"port": 3}, config=file).port == 3
    assert load_settings(config=file).chunk_size == 262_144


def test_a_flag_that_was_not_given_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULIER_LOCAL_USERS", "1")
    assert load_settings({"local_users": None}).local_users


def test_every_option_of_serve_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    options = inspect.signature(serve).parameters.keys() - {"config"}
    assert {option.rstrip("_") for option in options} <= Settings.model_fields.keys()
    monkeypatch.setenv("HAULIER_NO_TRANSFERS", "true")
    assert load_settings().no_transfers


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "haulier.toml"
    file.write_text("port = 4\n")
    monkeypatch.setenv("HAULIER_CONFIG", str(file))
    assert load_settings().port == 4


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULIER_PUBLIC_URL", "")
    assert load_settings().public_url is None


@pytest.mark.parametrize(
    "text", ["http://a.example, http://b.example:3000", "http://a.example http://B.example:3000/"]
)
def test_lists_in_the_environment_are_separated_by_commas_or_blanks(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAULIER_CORS_ORIGIN", text)
    assert load_settings().cors_origin == ("http://a.example", "http://b.example:3000")


def test_an_origin_is_kept_as_browsers_write_it() -> None:
    settings = load_settings({"cors_origin": ["HTTPS://App.Example:443/", "http://[::1]:80"]})
    assert settings.cors_origin == ("https://app.example", "http://[::1]")


@pytest.mark.parametrize(
    "origin",
    ["null", "*", "app.example", "ftp://app.example", "https://app.example/path", "https://u@app.example"],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    assert refusal({"cors_origin": [origin]}).setting == "--cors-origin"


def test_a_misspelt_variable_is_an_error_that_knows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULIER_MAX_UPLOAD_BYTE", "1")
    error = refusal()
    assert error.setting == "HAULIER_MAX_UPLOAD_BYTE"
    assert error.value == "1"
    assert "HAULIER_MAX_UPLOAD_BYTES" in error.expected


@pytest.mark.parametrize("name", ["WEBHOKS", "TOKN_SECRET", "DATABASE_PASSWORD", "API_KEY"])
def test_a_misspelt_variable_that_may_hold_a_secret_does_not_show_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HAULIER_{name}", "hunter2")
    assert "hunter2" not in str(refusal())


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "haulier.toml"
    file.write_text("prot = 1\n")
    error = refusal(config=file)
    assert error.setting == f"prot in {file}"
    assert "did you mean port?" in error.expected


def test_variables_of_the_other_commands_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULIER_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("HAULIER_TOKEN", "secret")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65_536),
        ("port", -1),
        ("port", "http"),
        ("port", True),
        ("workers", 0),
        ("data_dir", "a\0b"),
        ("data_dir", ""),
        ("ingestion_dir", ""),
        ("open", "perhaps"),
        ("durability", "sometimes"),
        ("digest", "sha-1"),
        ("log", "loud"),
        ("session_ttl_s", 0),
        ("visitor_ttl_s", 0),
        ("session_ttl_s", float("nan")),
        ("session_ttl_s", float("inf")),
        ("max_active_sessions", 0),
        ("max_upload_bytes", 2**63),
        ("min_free_bytes", -1),
        ("janitor_interval_s", 0),
        ("retention_s", -1),
        ("trash_for_s", -1),
        ("chunk_size", 262_143),
        ("chunk_size", 67_108_865),
        ("silent_body_s", 0),
        ("min_body_speed", -1),
        ("rate_per_owner", -1),
        ("rate_per_address", float("inf")),
        ("rate_of_failures", True),
        ("max_bodies_per_owner", -1),
        ("max_bodies_per_address", 1.5),
        ("allowed_host", ["a b"]),
        ("database_url", "mysql://h/x"),
        ("database_url", "sqlite://"),
        ("database_url", "sqlite:///"),
        ("database_url", "sqlite:///:memory:"),
        ("database_url", "sqlite:///rows%00.db"),
        ("database_url", "sqlite:///rows.db?mode=ro"),
        ("database_url", "sqlite:///what#rows.db"),
        ("storage_url", "/data"),
        ("storage_url", "file://host/data"),
        ("storage_url", "file:///data%00"),
        ("storage_url", "file:///data?x"),
        ("storage_url", "file:///data#x"),
        ("jobs", "celery"),
        ("host", ""),
    ],
)
def test_a_bad_value_is_told_with_its_key_and_what_is_expected(name: str, value: object) -> None:
    error = refusal({name: value})
    assert error.setting == "--" + name.replace("_", "-")
    assert str(value) in str(error.value)
    assert error.expected


def test_a_bad_variable_is_told_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULIER_PORT", "eighty")
    error = refusal()
    assert (error.setting, error.value) == ("HAULIER_PORT", "eighty")


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("storage_url", "s3://bucket", "S3 comes in a later version"),
        ("jobs", "procrastinate", "procrastinate comes in a later version"),
    ],
)
def test_what_comes_later_says_so(name: str, value: object, word: str) -> None:
    assert word in refusal({name: value}).expected


def test_a_password_in_a_url_is_not_told() -> None:
    assert "secret" not in str(refusal({"database_url": "postgres://u:secret@h/x"}))
    for url in ("https://h/x?token=secret", "https://h/x?secret", "https://h/x#secret"):
        assert "secret" not in str(refusal({"storage_url": url}))
    for name in ("database_url", "storage_url"):
        assert refusal({name: "host=db password=hush dbname=x"}).value == "***"
    assert "host=db" in str(refusal({"storage_url": "https:///x?host=db&passwd=hush"}))
    for url in ("postgresql://u:secret@h/x", "postgresql://h/x?user=u&password=secret"):
        settings = load_settings({"database_url": url})
        assert "secret" not in settings.database_place
        assert settings.database == url
    assert "secret" not in str(refusal({"public_url": "https://u:secret@files.example"}))
    assert "secret" not in str(refusal({"public_url": "https://u:secret@files.example/api"}))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_flag(host: str) -> None:
    assert load_settings({"host": host}).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "files.example"])
def test_listening_elsewhere_needs_tokens_or_open_in_so_many_words(host: str) -> None:
    settings = load_settings({"host": host})
    with pytest.raises(ConfigError, match="--open") as caught:
        require_closed(settings, tokens=False)
    assert (caught.value.setting, caught.value.value) == ("host", host)
    assert "haulier token create" in caught.value.expected
    assert require_closed(settings, tokens=True).tokens_required
    for allowed in ({"open": True}, {"require_tokens": True}):
        settings = load_settings({"host": host, **allowed})
        assert require_closed(settings, tokens=False) is settings


def test_a_public_address_without_tokens_is_no_leave_to_listen_elsewhere() -> None:
    with pytest.raises(ConfigError):
        require_closed(
            load_settings({"host": "0.0.0.0", "public_url": "https://files.example"}), tokens=False
        )


@pytest.mark.parametrize(
    "closing",
    [{"require_tokens": True}, {"public_url": "https://f.example"}, {"trusted_proxies": ["10.0.0.0/8"]}],
)
def test_whoever_expects_others_requires_tokens(closing: dict[str, object]) -> None:
    assert not load_settings().tokens_required
    settings = load_settings(closing)
    assert settings.tokens_required
    assert require_closed(settings, tokens=False).tokens_required
    assert refusal({**closing, "open": True}).setting == "--open"


def test_tokens_end_what_open_allowed() -> None:
    settings = require_closed(load_settings({"open": True}), tokens=True)
    assert settings.tokens_required
    assert not settings.open


def test_settings_reach_a_worker_as_they_are() -> None:
    given = load_settings({"open": True, "allowed_host": ["a.example"]})
    settings = require_closed(given, tokens=True)
    assert settings_from_text(settings.model_dump_json()).model_dump() == settings.model_dump()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("10MB", 10_000_000), ("2MiB", 2_097_152), (500, 500), ("0B", None), (0, None), (None, None)],
)
def test_a_bandwidth_is_kept_as_bytes_and_reaches_a_worker(given: object, kept: int | None) -> None:
    settings = load_settings({"bandwidth": given})
    assert settings.bandwidth == kept
    assert settings_from_text(settings.model_dump_json()).bandwidth == kept


@pytest.mark.parametrize("given", ["10M", "fast", -1, True, 1.5])
def test_what_is_no_bandwidth_is_refused_with_an_example(given: object) -> None:
    error = refusal({"bandwidth": given})
    assert (error.setting, error.expected) == (
        "--bandwidth",
        "expected bytes per second like 500kB, 10MB or 2MiB, or 0 for no bound",
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Files.Example/", "https://files.example"),
        ("https://files.example:443/up/load/", "https://files.example/up/load"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_public_address_is_kept_as_links_are_built_from_it(given: str, kept: str) -> None:
    assert load_settings({"public_url": given}).public_url == kept


@pytest.mark.parametrize(
    "url",
    ["files.example", "ftp://f.example", "https://f.example/?a", "https://f.example/a//b", "https://f.example/a b",
     "https://f.example/api/x", "https://f.example/a/../b"],
)  # fmt: skip
def test_what_is_no_public_address_is_refused(url: str) -> None:
    assert refusal({"public_url": url}).setting == "--public-url"


def test_proxies_are_addresses_and_networks() -> None:
    settings = load_settings({"trusted_proxies": "127.0.0.1, 10.0.0.0/8 fd00::/8"})
    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")
    for wrong in ("*", "proxy.example", "10.0.0.1/8", "unix:"):
        assert refusal({"trusted_proxies": [wrong]}).setting == "--trusted-proxies"


def test_allowed_names_have_a_port_or_none() -> None:
    assert load_settings({"allowed_host": "Files.lan, b:8000"}).allowed_host == ("files.lan", "b:8000")
    for wrong in ("https://files.lan", "a b", "*", "a:b"):
        assert refusal({"allowed_host": [wrong]}).setting == "--allowed-host"


def test_urls_name_files_relative_or_absolute(tmp_path: Path) -> None:
    absolute = load_settings({"database_url": f"sqlite:///{tmp_path}/my%20rows%3F%23.db"})
    assert absolute.database == tmp_path / "my rows?#.db"
    assert load_settings({"database_url": "sqlite:///rows.db"}).database_file == Path("rows.db").resolve()
    assert load_settings({"storage_url": f"file://{tmp_path}/b%C3%A4r"}).storage_dir == tmp_path / "bär"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert refusal(config=tmp_path / "missing.toml").setting == "config"
    broken = tmp_path / "broken.toml"
    broken.write_text("port =")
    assert "TOML" in refusal(config=broken).expected
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'host = "\xe4"')
    assert "TOML" in refusal(config=latin).expected


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_workers_get_the_settings_that_their_supervisor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        host="::1",
        port=0,
        workers=3,
        cors_origin=("https://app.example", "http://127.0.0.1:3000"),
        database_url="sqlite:////var/rows.db",
        storage_url="file:///var/bytes",
        digest=DigestName.BLAKE3,
        session_ttl_s=1.25,
        max_upload_bytes=2**63 - 1,
        local_users=True,
    )
    monkeypatch.setenv("HAULIER_PORT", "1")
    monkeypatch.setenv("HAULIER_SESSION_TTL_S", "7")
    assert settings_from_text(given.model_dump_json()) == given
    assert settings_from_text(Settings().model_dump_json()) == Settings()
