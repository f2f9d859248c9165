"""Who may do what over HTTP: the table that the tests hold the service to, and the documentation shows.

Rule 1: every route and method of the application has one row in each of the two tables.
Rule 2: a cell is the status that an otherwise good request is answered with.
"""

from typing import Final

from haulier.core.values import dataclass

TOKEN_CALLERS: Final = {
    "nobody": "sends no token; the capsule admits visitors",
    "stranger": "has a token, and no role in the capsule",
    "reader": "was granted `reader` in the capsule",
    "fellow": "was granted `writer`, and began neither the upload nor the record",
    "writer": "was granted `writer`, and began the upload or the record",
    "owner": "owns the capsule (a token with scope `owner`)",
    "operator": "has a token with scope `operator`",
    "expired": "sends a token of the capsule's owner whose time is over",
    "own": "sends the token of this very upload",
    "other": "sends the token of another upload of the same writer",
    "visitor": "is a browser without a token; the capsule admits visitors, and this one began nothing",
    "page": "is a web page of another origin, in a browser that is signed in as the owner",
}
WITH_TOKENS: Final = """
method path                                    nobody stranger reader fellow writer owner operator expired own other visitor page
POST   /api/uploads                               401      404    403    201    201   201      201     401 401   401     201  403
GET    /api/uploads/{upload_id}                   401      404    404    404    200   200      200     401 200   401     404  403
HEAD   /api/uploads/{upload_id}                   401      404    404    404    200   200      200     401 200   401     404  403
PATCH  /api/uploads/{upload_id}                   401      404    404    404    204   204      204     401 204   401     404  403
DELETE /api/uploads/{upload_id}                   401      404    404    404    204   204      204     401 204   401     404  403
PUT    /api/uploads/{upload_id}/chunks/{index}    401      404    404    404    204   204      204     401 204   401     404  403
POST   /api/uploads/{upload_id}/finish            401      404    404    404    200   200      200     401 200   401     404  403
GET    /api/uploads/{upload_id}/events            401      404    404    404    200   200      200     401 200   401     404  403
PUT    /api/files/{filename:path}                 401      404    403    201    201   201      201     401 401   401     201  403
OPTIONS /tus                                  200      200    200    200    200   200      200     200 200   200     200  200
OPTIONS /tus/                                 200      200    200    200    200   200      200     200 200   200     200  200
OPTIONS /tus/{upload_id:path}                 200      200    200    200    200   200      200     200 200   200     200  200
POST   /tus                                   401      404    403    201    201   201      201     401 401   401     201  403
POST   /tus/                                  401      404    403    201    201   201      201     401 401   401     201  403
POST   /tus/{upload_id:path}                  401      404    404    404    204   204      204     401 204   401     404  403
HEAD   /tus/{upload_id:path}                  401      404    404    404    200   200      200     401 200   401     404  403
PATCH  /tus/{upload_id:path}                  401      404    404    404    204   204      204     401 204   401     404  403
GET    /tus/{upload_id:path}                  401      404    404    404    200   200      200     401 403   401     404  403
DELETE /tus/{upload_id:path}                  401      404    404    404    204   204      204     401 204   401     404  403
OPTIONS /resumable                            204      204    204    204    204   204      204     204 204   204     204  204
OPTIONS /resumable/                           204      204    204    204    204   204      204     204 204   204     204  204
OPTIONS /resumable/{upload_id:path}           204      204    204    204    204   204      204     204 204   204     204  204
POST   /resumable                             401      404    403    201    201   201      201     401 401   401     201  403
POST   /resumable/                            401      404    403    201    201   201      201     401 401   401     201  403
PUT    /resumable                             401      404    403    201    201   201      201     401 401   401     201  403
PUT    /resumable/                            401      404    403    201    201   201      201     401 401   401     201  403
PUT    /resumable/{upload_id:path}            401      404    403    201    201   201      201     401 401   401     201  403
HEAD   /resumable/{upload_id:path}            401      404    404    404    204   204      204     401 204   401     404  403
GET    /resumable/{upload_id:path}            401      404    404    404    204   204      204     401 204   401     404  403
PATCH  /resumable/{upload_id:path}            401      404    404    404    204   204      204     401 204   401     404  403
DELETE /resumable/{upload_id:path}            401      404    404    404    204   204      204     401 204   401     404  403
GET    /api/records                               401      404    200    200    200   200      200     401 401   401     200  403
POST   /api/records                               401      404    403    404    201   422      422     401 401   401     404  403
GET    /api/records/{record_id}                   401      404    200    200    200   200      200     401 401   401     404  403
DELETE /api/records/{record_id}                   401      404    403    403    204   204      204     401 401   401     404  403
POST   /api/records/delete                        401      200    200    200    200   200      200     401 401   401     200  403
POST   /api/records/{record_id}/restore           401      404    403    403    200   200      200     401 401   401     404  403
POST   /api/records/{record_id}/retry             401      404    403    403    422   422      422     401 401   401     404  403
GET    /api/records/{record_id}/assets/{kind}     401      404    200    200    200   200      200     401 401   401     404  403
HEAD   /api/records/{record_id}/assets/{kind}     401      404    200    200    200   200      200     401 401   401     404  403
POST   /api/records/{record_id}/links             401      404    201    201    201   201      201     401 401   401     404  403
GET    /links/{link:path}                         200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /links/{link:path}                         200      200    200    200    200   200      200     200 200   200     200  200
GET    /api/events                                401      404    200    200    200   200      200     401 401   401     200  403
POST   /api/ingestion/upload                      201      404    403    201    201   201      201     401 401   401     201  403
GET    /api/ingestion/history                     200      200    200    200    200   200      200     401 401   401     200  403
GET    /api/ingestion/history/summary             200      200    200    200    200   200      200     401 401   401     200  403
GET    /api/ingestion/history/export              200      200    200    200    200   200      200     401 401   401     200  403
GET    /api/ingestion/history/{record_id}         404      404    404    404    200   404      404     401 401   401     404  403
DELETE /api/ingestion/history/{record_id}         404      404    404    404    204   404      404     401 401   401     404  403
POST   /api/ingestion/history/{record_id}/restore 404      404    404    404    200   404      404     401 401   401     404  403
GET    /api/ingestion/session                     404      404    404    404    404   404      404     401 401   401     200  403
DELETE /api/ingestion/session                     204      204    204    204    204   204      204     401 401   401     204  403
POST   /api/ingestion/session/extend              404      404    404    404    404   404      404     401 401   401     200  403
GET    /api/session                               401      200    200    200    200   200      200     401 401   401     200  403
POST   /api/session                               401      201    201    201    201   201      201     401 401   401     401  403
DELETE /api/session                               401      204    204    204    204   204      204     401 401   401     204  403
GET    /api/transfers                             401      403    403    403    403   403      200     401 401   401     403  403
GET    /api/transfers/{transfer_id}               401      403    403    403    403   403      404     401 401   401     403  403
POST   /api/transfers/{transfer_id}/pause         401      403    403    403    403   403      404     401 401   401     403  403
POST   /api/transfers/{transfer_id}/resume        401      403    403    403    403   403      404     401 401   401     403  403
POST   /api/transfers/{transfer_id}/cancel        401      403    403    403    403   403      404     401 401   401     403  403
POST   /api/transfers/{transfer_id}/bump          401      403    403    403    403   403      404     401 401   401     403  403
POST   /api/transfers/{transfer_id}/retry         401      403    403    403    403   403      404     401 401   401     403  403
GET    /api/operators/sessions                    401      403    403    403    403   403      200     401 401   401     403  403
GET    /api/operators/stats                       401      403    403    403    403   403      200     401 401   401     403  403
POST   /api/operators/expire                      401      403    403    403    403   403      200     401 401   401     403  403
GET    /metrics                                   401      403    403    403    403   403      200     401 401   401     403  403
HEAD   /metrics                                   401      403    403    403    403   403      200     401 401   401     403  403
GET    /                                          200      200    200    200    200   200      200     401 401   401     200  403
HEAD   /                                          200      200    200    200    200   200      200     401 401   401     200  403
GET    /page/{name}                               200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /page/{name}                               200      200    200    200    200   200      200     200 200   200     200  200
GET    /errors/{slug}                             200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /errors/{slug}                             200      200    200    200    200   200      200     200 200   200     200  200
GET    /openapi.json                              200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /openapi.json                              200      200    200    200    200   200      200     200 200   200     200  200
GET    /healthz                                   200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /healthz                                   200      200    200    200    200   200      200     200 200   200     200  200
GET    /readyz                                    200      200    200    200    200   200      200     200 200   200     200  200
HEAD   /readyz                                    200      200    200    200    200   200      200     200 200   200     200  200
"""

OPEN_CALLERS: Final = {
    "self": "is a program of the user whose service it is",
    "page": "is a web page of another origin, in a browser of that user",
    "rebound": "is a web page whose own name was made to point to this machine",
    "neighbour": "is a program of another user of this machine",
    "visitor": "is a browser of that user, with a visitor that began nothing",
}
IN_OPEN_MODE: Final = """
method path                                    self page rebound neighbour visitor
POST   /api/uploads                             201  403     421       403     201
GET    /api/uploads/{upload_id}                 200  403     421       403     200
HEAD   /api/uploads/{upload_id}                 200  403     421       403     200
PATCH  /api/uploads/{upload_id}                 204  403     421       403     204
DELETE /api/uploads/{upload_id}                 204  403     421       403     204
PUT    /api/uploads/{upload_id}/chunks/{index}  204  403     421       403     204
POST   /api/uploads/{upload_id}/finish          200  403     421       403     200
GET    /api/uploads/{upload_id}/events          200  403     421       403     200
PUT    /api/files/{filename:path}               201  403     421       403     201
OPTIONS /tus                                   200  403     421       403     200
OPTIONS /tus/                                  200  403     421       403     200
OPTIONS /tus/{upload_id:path}                  200  403     421       403     200
POST   /tus                                    201  403     421       403     201
POST   /tus/                                   201  403     421       403     201
POST   /tus/{upload_id:path}                   204  403     421       403     204
HEAD   /tus/{upload_id:path}                   200  403     421       403     200
PATCH  /tus/{upload_id:path}                   204  403     421       403     204
GET    /tus/{upload_id:path}                   200  403     421       403     200
DELETE /tus/{upload_id:path}                   204  403     421       403     204
OPTIONS /resumable                             204  403     421       403     204
OPTIONS /resumable/                            204  403     421       403     204
OPTIONS /resumable/{upload_id:path}            204  403     421       403     204
POST   /resumable                              201  403     421       403     201
POST   /resumable/                             201  403     421       403     201
PUT    /resumable                              201  403     421       403     201
PUT    /resumable/                             201  403     421       403     201
PUT    /resumable/{upload_id:path}             201  403     421       403     201
HEAD   /resumable/{upload_id:path}             204  403     421       403     204
GET    /resumable/{upload_id:path}             204  403     421       403     204
PATCH  /resumable/{upload_id:path}             204  403     421       403     204
DELETE /resumable/{upload_id:path}             204  403     421       403     204
GET    /api/records                             200  403     421       403     200
POST   /api/records                             201  403     421       403     422
GET    /api/records/{record_id}                 200  403     421       403     200
DELETE /api/records/{record_id}                 204  403     421       403     204
POST   /api/records/delete                      200  403     421       403     200
POST   /api/records/{record_id}/restore         200  403     421       403     200
POST   /api/records/{record_id}/retry           422  403     421       403     422
GET    /api/records/{record_id}/assets/{kind}   200  403     421       403     200
HEAD   /api/records/{record_id}/assets/{kind}   200  403     421       403     200
POST   /api/records/{record_id}/links           201  403     421       403     201
GET    /links/{link:path}                       200  403     421       403     200
HEAD   /links/{link:path}                       200  403     421       403     200
GET    /api/events                              200  403     421       403     200
POST   /api/ingestion/upload                    201  403     421       403     201
GET    /api/ingestion/history                   200  403     421       403     200
GET    /api/ingestion/history/summary           200  403     421       403     200
GET    /api/ingestion/history/export            200  403     421       403     200
GET    /api/ingestion/history/{record_id}       404  403     421       403     404
DELETE /api/ingestion/history/{record_id}       404  403     421       403     404
POST   /api/ingestion/history/{record_id}/restore 404 403    421       403     404
GET    /api/ingestion/session                   404  403     421       403     200
DELETE /api/ingestion/session                   204  403     421       403     204
POST   /api/ingestion/session/extend            404  403     421       403     200
GET    /api/session                             200  403     421       403     200
POST   /api/session                             401  403     421       403     401
DELETE /api/session                             204  403     421       403     204
GET    /api/transfers                           200  403     421       403     200
GET    /api/transfers/{transfer_id}             404  403     421       403     404
POST   /api/transfers/{transfer_id}/pause       404  403     421       403     404
POST   /api/transfers/{transfer_id}/resume      404  403     421       403     404
POST   /api/transfers/{transfer_id}/cancel      404  403     421       403     404
POST   /api/transfers/{transfer_id}/bump        404  403     421       403     404
POST   /api/transfers/{transfer_id}/retry       404  403     421       403     404
GET    /api/operators/sessions                  200  403     421       403     200
GET    /api/operators/stats                     200  403     421       403     200
POST   /api/operators/expire                    200  403     421       403     200
GET    /metrics                                 200  403     421       403     200
HEAD   /metrics                                 200  403     421       403     200
GET    /                                        200  403     421       403     200
HEAD   /                                        200  403     421       403     200
GET    /page/{name}                             200  403     421       403     200
HEAD   /page/{name}                             200  403     421       403     200
GET    /errors/{slug}                           200  403     421       403     200
HEAD   /errors/{slug}                           200  403     421       403     200
GET    /openapi.json                            200  403     421       403     200
HEAD   /openapi.json                            200  403     421       403     200
GET    /healthz                                 200  200     200       200     200
HEAD   /healthz                                 200  200     200       200     200
GET    /readyz                                  200  200     200       200     200
HEAD   /readyz                                  200  200     200       200     200
"""


@dataclass(frozen=True)
class Row:
    """One method of one route, and what each caller is answered."""

    method: str
    path: str
    statuses: dict[str, int]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def read_table(text: str) -> list[Row]:
    """Return the rows of one of the tables above."""
    head, *lines = (line.split() for line in text.strip().splitlines())
    rows = []
    for method, path, *cells in lines:
        assert len(cells) == len(head) - 2, (method, path)
        rows.append(Row(method, path, {who: int(cell) for who, cell in zip(head[2:], cells, strict=True)}))
    return rows


SLUGS: Final = {
    (401, ""): "unauthenticated",
    (403, "token"): "access-denied",
    (403, "open"): "not-local",
    (404, "/api/ingestion/session"): "visitor-not-found",
    (404, "/api/uploads/"): "upload-not-found",
    (404, "/api/records/"): "record-not-found",
    (404, "/api/transfers/"): "transfer-not-found",
    (404, "/tus/{"): "upload-not-found",
    (404, "/resumable/{"): "upload-not-found",
    (404, "/resumable"): "capsule-not-found",
    (404, "/tus"): "capsule-not-found",
    (404, "/api/ingestion/history/"): "record-not-found",
    (404, "/api/"): "capsule-not-found",
    (421, ""): "host-refused",
    (422, "/api/records"): "invalid-request",
}


def slug_of(row: Row, who: str, status: int, mode: str) -> str:
    """Return the problem that a refusal is told as."""
    if row.name == "POST /api/records" and who in {"fellow", "visitor"} and status == 404:
        return "upload-not-found"  # the capsule is there for them, the writer's upload is not
    if (mode, who) == ("token", "page"):
        return "origin-refused"
    if row.name == "PUT /resumable/{upload_id:path}" and status == 404:
        return "capsule-not-found"  # it is the name of a file
    if status == 403:
        return SLUGS[status, mode]
    fitting = (
        slug for (code, prefix), slug in SLUGS.items() if code == status and row.path.startswith(prefix)
    )
    return next(fitting)
