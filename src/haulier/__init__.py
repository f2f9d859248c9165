"""Haulier moves files and never loses one: uploads in, transfers out, peers across.

```python
from haulier import Client, UploadManager
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from haulier.client import Asset as Asset
    from haulier.client import Client as Client
    from haulier.client import Link as Link
    from haulier.client import Progress as Progress
    from haulier.client import Record as Record
    from haulier.client import UploadState as UploadState
    from haulier.core.outgoing import IfExists as IfExists
    from haulier.core.transfer import Outcome as Outcome
    from haulier.core.transfer import Phase as Phase
    from haulier.core.transfer import Priority as Priority
    from haulier.embedding import asgi_app as asgi_app
    from haulier.engine.send_runner import SendLimits as SendLimits
    from haulier.sender import UploadManager as UploadManager

__version__ = "0.1.0"
__all__ = [
    "Asset",
    "Client",
    "IfExists",
    "Link",
    "Outcome",
    "Phase",
    "Priority",
    "Progress",
    "Record",
    "SendLimits",
    "UploadManager",
    "UploadState",
    "__version__",
    "asgi_app",
]

_PLACES: Final = {
    "asgi_app": "haulier.embedding",
    "IfExists": "haulier.core.outgoing",
    "Outcome": "haulier.core.transfer",
    "Phase": "haulier.core.transfer",
    "Priority": "haulier.core.transfer",
    "SendLimits": "haulier.engine.send_runner",
    "UploadManager": "haulier.sender",
}
"""Where names are that are not the client's."""


def __getattr__(name: str) -> object:
    # The client brings an HTTP library with it; `import haulier` and the command's help do without.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "haulier.client")), name)
