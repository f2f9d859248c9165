"""Haulier moves files and never loses one: uploads in, transfers out, peers across.

```python
from haulier import Client
```
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from haulier.client import Asset as Asset
    from haulier.client import Client as Client
    from haulier.client import Progress as Progress
    from haulier.client import Record as Record
    from haulier.client import UploadState as UploadState

__version__ = "0.1.0"
__all__ = ["Asset", "Client", "Progress", "Record", "UploadState", "__version__"]


def __getattr__(name: str) -> object:
    # The client brings an HTTP library with it; `import haulier` and the command's help do without.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from haulier import client  # noqa: PLC0415 - see above

    return getattr(client, name)
