"""Pure maths: numpy arrays in, a value out. Nothing of ours is imported here."""
