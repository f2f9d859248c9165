"""Many callers and many workers: owners and policies of capsules, grants, tokens, who is asked and who follows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column(
        "capsules",
        sa.Column(
            "owner",
            TEXT,
            nullable=False,
            server_default="local",
            comment="an owner as in uploads; needs no grant",
        ),
    )
    op.add_column(
        "capsules",
        sa.Column(
            "policy",
            TEXT,
            nullable=False,
            server_default="{}",
            comment="a JSON object: what the capsule takes",
        ),
    )
    # Nobody has to know the word capsule: whoever has a token finds room for their own things.
    op.execute("""UPDATE capsules SET policy = '{"admits_users"\\:true}' WHERE name = 'default'""")
    # Uploads of unknown size now keep reserved what they have.
    op.execute(
        """
        UPDATE capsules SET reserved_bytes = reserved_bytes + (
            SELECT COALESCE(SUM("offset"), 0) FROM uploads
            WHERE capsule_id = capsules.id AND spec_size IS NULL AND status IN ('open', 'finishing')
        )
        """
    )
    op.create_table(
        "grants",
        sa.Column("capsule_id", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.CheckConstraint("role IN ('reader', 'writer', 'owner')", name=op.f("ck_grants_role_known")),
        sa.ForeignKeyConstraint(
            ["capsule_id"], ["capsules.id"], name=op.f("fk_grants_capsule_id_capsules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("capsule_id", "principal", name=op.f("pk_grants")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_grants_principal", "grants", ["principal"])
    op.create_table(
        "tokens",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("capsule_id", TEXT, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "scope IN ('read', 'write', 'owner', 'operator')", name=op.f("ck_tokens_scope_known")
        ),
        sa.ForeignKeyConstraint(
            ["capsule_id"], ["capsules.id"], name=op.f("fk_tokens_capsule_id_capsules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
    )
    op.add_column(
        "uploads",
        sa.Column(
            "asked", sa.BigInteger(), nullable=True, comment="the fence whose holder is asked to let go"
        ),
    )
    op.add_column(
        "uploads",
        sa.Column(
            "digest_holder",
            TEXT,
            nullable=True,
            comment="the worker whose digest follows this upload",
        ),
    )
    op.add_column(
        "uploads",
        sa.Column("promised_name", TEXT, nullable=True, comment="the digest that the last finish was given"),
    )
    op.add_column("uploads", sa.Column("promised_value", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "promised_value")
    op.drop_column("uploads", "promised_name")
    op.drop_column("uploads", "digest_holder")
    op.drop_column("uploads", "asked")
    op.drop_table("tokens")
    op.drop_table("grants")
    op.drop_column("capsules", "policy")
    op.drop_column("capsules", "owner")
