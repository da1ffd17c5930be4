"""Queries and database must share no image: an image would be its own nearest neighbour."""

from collections.abc import Mapping

from base.errors import InputError

NUM_EXAMPLES = 3


def check_disjoint(queries: Mapping[str, str], database: Mapping[str, str]) -> None:
    """Check that no query has the SHA-256 of an image of the database; both map keys to digests.

    Raises:
        InputError: some do; it names three of them.
    """
    keys = {digest: key for key, digest in database.items()}
    shared = [(key, keys[digest]) for key, digest in queries.items() if digest in keys]
    if shared:
        examples = ", ".join(f"{query} is {found}" for query, found in shared[:NUM_EXAMPLES])
        raise InputError(
            f"{len(shared):,} of {len(queries):,} queries are images of the database ({examples}"
            f"{', …' if len(shared) > NUM_EXAMPLES else ''}); leave them out, or search another split"
        )
