"""Signatures of webhooks."""

import pytest

from haulier.core.webhook import read_webhook_secret, sign_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_signature_is_the_one_of_the_specification() -> None:
    # Source: the example of Svix' manual, "Verifying Webhooks Manually".
    signature = sign_webhook(
        read_webhook_secret(SECRET),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_AAAA",
        "whsec_$$$$",
        f"whsec_{'A' * 88}",
        "whsec_é",
    ],
)
def test_what_is_no_secret_is_refused_without_its_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not (base64|a webhook secret)$"):
        read_webhook_secret(text)
