"""An app that cannot be imported."""

raise LookupError("no configuration")
