"""tus 1.0.0 at `/tus/`, on the same uploads as every other front end."""

from haulier.server.tus.routes import TusRoutes
from haulier.server.tus.version import TusVersion

__all__ = ["TusRoutes", "TusVersion"]
