"""The statements about who may do what, and about how much room there is; see statements.py for the rules."""

from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.inserts import InsertNew
from haulier.adapters.sql.models import capsules, grants, sign_ins, tokens
from haulier.adapters.sql.statements import ADMITS_VISITORS
from haulier.core.caller import Scope

_bind = sa.bindparam

# --- capsules ----------------------------------------------------------------------------------------

_THIS_CAPSULE: Final = capsules.c.name == _bind("capsule")
_granted: Final = (
    sa.select(grants.c.role)
    .where(grants.c.capsule_id == capsules.c.id, grants.c.principal == _bind("principal"))
    .correlate(capsules)
    .scalar_subquery()
    .label("role")
)
CAPSULE: Final = sa.select(capsules).where(_THIS_CAPSULE)
STANDING: Final = sa.select(capsules, _granted).where(_THIS_CAPSULE)
CAPSULES: Final = sa.select(capsules).order_by(capsules.c.name)
ADMITTING: Final[sa.Select[Any]] = (
    sa.select(sa.literal_column("1")).select_from(capsules).where(ADMITS_VISITORS).limit(1)
)
ADD_CAPSULE: Final = InsertNew(capsules, capsules.c.name).values(
    id=_bind("id"),
    name=_bind("capsule"),
    owner=_bind("owner"),
    policy=_bind("policy"),
    quota_bytes=_bind("quota"),
    used_bytes=sa.literal_column("0"),
    reserved_bytes=sa.literal_column("0"),
)
CHANGE_CAPSULE: Final = (
    sa.update(capsules)
    .where(_THIS_CAPSULE)
    .values(owner=_bind("new_owner"), policy=_bind("new_policy"), quota_bytes=_bind("new_quota"))
)
TAKE_ROOM: Final = (
    sa.update(capsules)
    .where(
        _THIS_CAPSULE,
        sa.or_(
            capsules.c.quota_bytes.is_(None),
            capsules.c.used_bytes + capsules.c.reserved_bytes + _bind("bytes") + _bind("reserved")
            <= capsules.c.quota_bytes,
        ),
    )
    .values(
        reserved_bytes=capsules.c.reserved_bytes + _bind("reserved"),
        used_bytes=capsules.c.used_bytes + _bind("bytes"),
    )
)
USE: Final = (
    sa.update(capsules)
    .where(_THIS_CAPSULE)
    .values(
        reserved_bytes=capsules.c.reserved_bytes - _bind("reserved"),
        used_bytes=capsules.c.used_bytes + _bind("bytes"),
    )
)

# --- grants ------------------------------------------------------------------------------------------

_capsule_id: Final = sa.select(capsules.c.id).where(_THIS_CAPSULE).scalar_subquery()
_THIS_GRANT: Final = sa.and_(grants.c.capsule_id == _capsule_id, grants.c.principal == _bind("principal"))
CHANGE_GRANT: Final = sa.update(grants).where(_THIS_GRANT).values(role=_bind("new_role"))
ADD_GRANT: Final = InsertNew(grants, grants.c.capsule_id, grants.c.principal).from_select(
    ["capsule_id", "principal", "role"],
    sa.select(capsules.c.id, _bind("principal", type_=sa.Text), _bind("new_role", type_=sa.Text)).where(
        _THIS_CAPSULE
    ),
)
REMOVE_GRANT: Final = sa.delete(grants).where(_THIS_GRANT)
GRANTS: Final = (
    sa.select(grants.c.principal, grants.c.role)
    .where(grants.c.capsule_id == _capsule_id)
    .order_by(grants.c.principal)
)

# --- tokens ------------------------------------------------------------------------------------------

_capsule_name: Final = (
    sa.select(capsules.c.name)
    .where(capsules.c.id == tokens.c.capsule_id)
    .correlate(tokens)
    .scalar_subquery()
    .label("capsule")
)
_TOKEN: Final = (*tokens.c, _capsule_name)
_THIS_TOKEN: Final = tokens.c.id == _bind("id")
_COUNTS: Final = sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > _bind("now"))
ADD_TOKEN: Final = sa.insert(tokens).values(
    {column.name: _bind(column.name) for column in tokens.c if column.name != "capsule_id"}
    | {"capsule_id": _capsule_id}
)
TOKEN_BY_SECRET: Final = sa.select(*_TOKEN).where(tokens.c.secret_sha256 == _bind("secret_sha256"))
TOKEN: Final = sa.select(*_TOKEN).where(_THIS_TOKEN)
TOKENS: Final = sa.select(*_TOKEN).order_by(tokens.c.created_at, tokens.c.id)
ANY_TOKEN: Final[sa.Select[Any]] = sa.select(sa.literal_column("1")).select_from(tokens).limit(1)
NOTE_USE: Final = (
    sa.update(tokens)
    .where(
        _THIS_TOKEN,
        sa.or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < _bind("unless_since")),
    )
    .values(last_used_at=_bind("now"))
)
REVOKE: Final = sa.update(tokens).where(_THIS_TOKEN, _COUNTS).values(expires_at=_bind("now"))
FORGET: Final = sa.delete(tokens).where(_THIS_TOKEN, tokens.c.expires_at <= _bind("now"))
_THIS_SIGN_IN: Final = sign_ins.c.secret_sha256 == _bind("secret_sha256")
ADD_SIGN_IN: Final = sa.insert(sign_ins).from_select(
    ["secret_sha256", "token_id", "created_at", "expires_at"],
    sa.select(
        _bind("secret_sha256", type_=sa.LargeBinary),
        tokens.c.id,
        _bind("begun_at", type_=sa.Double),
        _bind("ends_at", type_=sa.Double),
    ).where(_THIS_TOKEN),
)
SIGN_IN: Final = (
    sa.select(*_TOKEN, sign_ins.c.created_at.label("begun_at"), sign_ins.c.expires_at.label("ends_at"))
    .join(sign_ins, sign_ins.c.token_id == tokens.c.id)
    .where(_THIS_SIGN_IN)
)
REMOVE_SIGN_IN: Final = sa.delete(sign_ins).where(_THIS_SIGN_IN)
REMOVE_ENDED_SIGN_INS: Final = sa.delete(sign_ins).where(
    sign_ins.c.secret_sha256.in_(
        sa.select(sign_ins.c.secret_sha256).where(sign_ins.c.expires_at <= _bind("now")).limit(_bind("limit"))
    )
)
OPERATOR_TOKEN: Final[sa.Select[Any]] = (
    sa.select(sa.literal_column("1"))
    .select_from(tokens)
    .where(
        tokens.c.principal == _bind("principal"),
        tokens.c.scope == sa.literal_column(f"'{Scope.OPERATOR}'"),
        tokens.c.capsule_id.is_(None),
        _COUNTS,
    )
    .limit(1)
)
