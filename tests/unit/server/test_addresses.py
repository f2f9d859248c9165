"""What a request's headers and its address say."""

from typing import Any

from haulier.server.addresses import base_url, header, headers_named


def scope(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http", "scheme": "http", "path": "/", "headers": list(headers), **more}


def test_repeated_headers_are_all_told_without_white_space_around_them() -> None:
    request = scope((b"a", b" 1\t"), (b"b", b"2"), (b"a", b"3"))
    assert (list(headers_named(request, b"a")), list(headers_named(request, b"c"))) == (["1", "3"], [])
    assert (header(request, b"a"), header(request, b"b"), header(request, b"c")) == ("1, 3", "2", None)


def test_headers_that_a_layer_has_put_in_their_place_are_the_ones_that_count() -> None:
    request = scope((b"host", b"a"))
    assert header(request, b"host") == "a"
    request["headers"] = [(b"host", b"b"), *request["headers"][1:]]
    assert header(request, b"host") == "b"
    assert base_url(request) == "http://b"


def test_what_stands_before_our_paths_is_written_as_in_a_url() -> None:
    assert base_url(scope((b"host", b"a"), root_path="/a b")) == "http://a/a%20b"
