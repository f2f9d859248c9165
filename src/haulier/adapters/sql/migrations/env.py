"""Runs the migrations on the connection that `migrate` has opened, inside its transaction."""

from alembic import context

from haulier.adapters.sql.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
