"""The stacks Wardline is measured beside, each a script that runs in an environment of its own (`.venv-peers`)."""
