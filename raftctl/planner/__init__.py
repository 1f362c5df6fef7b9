"""Pure decisions: what the committed state and a fresh view justify now."""
