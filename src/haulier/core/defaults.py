"""What holds unless an operator or an embedding program says otherwise; times in seconds."""

from typing import Final

from haulier.core.quantity import MIB

DAY_S: Final = 24 * 3600.0

DEFAULT_CHUNK: Final = 8 * MIB
"""Chunk size when the client does not care. Precedent: the part sizes of the AWS CLI and rclone."""
MAX_UPLOAD_BYTES: Final = 5 * MIB * MIB
"""Precedent: the largest object of S3, for many years, was 5 TiB."""
MIN_FREE_BYTES: Final = 100 * MIB
"""What stays free beside a declared size: room for the database, its log, and an operator's shell."""
MAX_LIVE_OF_ADDRESS: Final = 2048
"""As many as may send at once from there: twenty users at their own limit. An office behind one address has fewer; who
keeps making tokens, or visitors, to fill a service from one place finds an end."""
SESSION_TTL_S: Final = DAY_S
"""Without activity; a laptop that was closed in the evening goes on in the morning."""
VISITOR_TTL_S: Final = 30 * DAY_S
JANITOR_INTERVAL_S: Final = 60.0
TRASH_FOR_S: Final = DAY_S
RETENTION_S: Final = 30 * DAY_S
"""How long what has ended can still be asked for."""
EVENTS_FOR_S: Final = 7 * DAY_S
