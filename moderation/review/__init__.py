"""The decision log and the review queue: what the machine decided, what people are asked, what they said."""
