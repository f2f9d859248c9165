"""Who may go on with what a worker has in a row."""

from haulier.ports import Workers


async def may_take(workers: Workers, me: str, holder: str | None) -> bool:
    """Whether this worker may take what `holder` has: nobody, itself, or one that is dead."""
    return holder is None or holder == me or await workers.is_dead(holder)
