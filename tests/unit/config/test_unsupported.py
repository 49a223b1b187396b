from xenion.config.key import Status
from xenion.config.unsupported import unsupported_keys


def test_each_says_what_it_asks_for_in_a_sentence_and_why_not_in_a_clause() -> None:
    for key in unsupported_keys():
        assert key.doc[0].isupper(), key.name
        assert key.doc.endswith("."), key.name
        assert not key.reason.endswith("."), key.name
        assert key.reason[:1].islower() or not key.reason, key.name


def test_none_has_a_default_or_choices() -> None:
    assert all(
        (key.status, key.default, key.choices) == (Status.ACCEPTED, None, ()) for key in unsupported_keys()
    )
