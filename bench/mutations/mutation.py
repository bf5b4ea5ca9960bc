"""One change of the package."""
from typing import NamedTuple


class Mutation(NamedTuple):
    """
    One change of the package.

    :param title: the harm to a user.
    :param file: relative to the root of the repository.
    :param old: text that occurs once in it; :param new: what takes its place.
    :param tests: arguments of pytest.
    """

    title: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
