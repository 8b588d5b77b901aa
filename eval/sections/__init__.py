"""The sections of the moderation report: each says what one part of the document shows, in words and pictures."""
