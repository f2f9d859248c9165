"""What is waited for and kept at most, when nobody says otherwise."""

from dataclasses import asdict

from haulier.soulseek.bounds import Bounds


def test_the_bounds_of_every_day() -> None:
    assert asdict(Bounds()) == {
        "direct_connect_s": 10.0,
        "indirect_connect_s": 20.0,
        "handshake_s": 10.0,
        "response_s": 30.0,
        "offset_s": 30.0,
        "message_write_s": 5.0,
        "server_answer_s": 10.0,
        "peer_idle_s": 120.0,
        "replaced_s": 10.0,
        "ping_s": 60.0,
        "stall_s": 60.0,
        "rate_window_s": 60.0,
        "minimum_rate": 1024,
        "linger_s": 5.0,
        "connections": 1_000,
        "connections_per_address": 20,
        "messages_per_s": 50.0,
        "unsent": 1_048_576,
        "unexpected": 65_536,
        "search_connections": 20,
        "queued_files_per_user": 100,
        "queued_bytes_per_user": 10_000_000_000,
        "queued_files": 200_000,
        "failures_per_day": 10,
        "offline_s": 604_800.0,
        "connect_tries": 3,
        "retry_base_s": 10.0,
        "place_poll_s": 300.0,
    }
