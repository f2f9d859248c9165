"""The asyncio client of a Haulier service; `haulier.Client` is the same."""

from haulier.client.facade import Client as Client
from haulier.client.lanes import TwoLanes as TwoLanes
from haulier.client.values import Asset as Asset
from haulier.client.values import Link as Link
from haulier.client.values import Record as Record
from haulier.client.values import UploadState as UploadState
from haulier.core.progress import Progress as Progress
