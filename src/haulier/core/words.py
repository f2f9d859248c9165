"""The words by which a name is found."""


def words_of(text: str) -> list[str]:
    """Return runs of letters and digits, without case."""
    return "".join(each if each.isalnum() else " " for each in text.casefold()).split()
