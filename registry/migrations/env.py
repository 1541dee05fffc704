"""Runs the migrations on the connection that `registry.session` hands over, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="frontrunner_version")
context.run_migrations()
