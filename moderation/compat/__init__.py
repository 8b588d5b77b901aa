"""Endpoints in the shape of hosted moderation APIs, so that their clients need another URL and nothing else."""
