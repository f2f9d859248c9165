"""The IETF's "Resumable Uploads for HTTP" at `/resumable/`, in the interop versions of its drafts."""

from haulier.server.resumable.routes import ResumableRoutes

__all__ = ["ResumableRoutes"]
