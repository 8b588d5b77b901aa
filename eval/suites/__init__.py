"""One file per question asked of the moderation model; each takes rows and scores and returns a plain table."""
